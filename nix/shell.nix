# Everything that ci/test, test/bench and daily work call. `nix develop ./nix`, or with a toolchain of your own:
#   nix-shell nix/shell.nix
{ pkgs ? import <nixpkgs> { }
, mkShell ? pkgs.mkShell
, rustToolchain ? null
, cargo-deny ? pkgs.cargo-deny
, cargo-nextest ? pkgs.cargo-nextest
, fio ? pkgs.fio
, git ? pkgs.git
, python3 ? pkgs.python3
, qemu ? pkgs.qemu
, rustup ? pkgs.rustup
, shellcheck ? pkgs.shellcheck
, valgrind ? pkgs.valgrind
}:

mkShell {
  packages = [
    # Without the flake's toolchain, rustup reads rust-toolchain.toml and brings the right one.
    (if rustToolchain == null then rustup else rustToolchain)
    cargo-deny
    cargo-nextest
    git
    python3
    shellcheck
    # The benchmarks: fio to compare with, callgrind to count instructions.
    fio
    valgrind
    # Machines with a real NVMe model.
    qemu
  ];
}
