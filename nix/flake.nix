{
  description = "io-engine, a userspace, polled-mode storage engine";

  # Use from the root of the repository: nix build ./nix · nix develop ./nix
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    rust-overlay = {
      url = "github:oxalica/rust-overlay";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs = { self, nixpkgs, rust-overlay }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forAllSystems = f: nixpkgs.lib.genAttrs systems (system: f (import nixpkgs {
        inherit system;
        overlays = [ rust-overlay.overlays.default ];
      }));
      # The compiler that rust-toolchain.toml pins, so that Nix and rustup build the same thing.
      toolchain = pkgs: pkgs.rust-bin.fromRustupToolchainFile ../rust-toolchain.toml;
      package = pkgs: pkgs.callPackage ./package.nix {
        rustPlatform = pkgs.makeRustPlatform {
          cargo = toolchain pkgs;
          rustc = toolchain pkgs;
        };
      };
    in
    {
      packages = forAllSystems (pkgs: rec {
        io-engine = package pkgs;
        default = io-engine;
      });

      devShells = forAllSystems (pkgs: {
        default = pkgs.callPackage ./shell.nix { rustToolchain = toolchain pkgs; };
      });

      nixosModules = rec {
        io-engine = { pkgs, lib, ... }: {
          imports = [ ./module.nix ];
          services.io-engine.package =
            lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        };
        default = io-engine;
      };
    };
}
