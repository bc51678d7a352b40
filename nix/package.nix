# The daemon and its sub-commands. `rustPlatform` must bring the Rust version that rust-toolchain.toml names, or a newer one.
{ lib, rustPlatform }:

let
  manifest = (lib.importTOML ../Cargo.toml).workspace.package;
in
rustPlatform.buildRustPackage {
  pname = "io-engine";
  inherit (manifest) version;

  # Only what cargo reads: an edit of a document or of a CI script does not rebuild the package.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../clippy.toml
      ../io-engine
      ../jsonrpc
      ../spdk-rs
      ../spdk-rs-sys
      ../test
    ];
  };

  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [ "--package" "io-engine" "--bins" ];

  # The suite pins threads, opens sockets and asks the kernel for io_uring and huge pages, all of which a build sandbox may
  # refuse. It is run by ci/test, outside.
  doCheck = false;

  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    $out/bin/io-engine --version | grep -F ${lib.escapeShellArg manifest.version}
    runHook postInstallCheck
  '';

  meta = {
    description = "A userspace, polled-mode storage engine";
    homepage = manifest.repository;
    license = with lib.licenses; [ asl20 mit ];
    platforms = [ "x86_64-linux" "aarch64-linux" ];
    mainProgram = "io-engine";
  };
}
