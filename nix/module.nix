# The NixOS module: one daemon under a hardened systemd unit.
#
#   services.io-engine = {
#     enable = true;
#     reactorMask = "0x3";
#     bdevs = [ "aio:///dev/disk/by-id/wwn-0x5000?blk_size=4096" ];
#     devices = [ "/dev/disk/by-id/wwn-0x5000" ];
#   };
{ config, lib, utils, ... }:

let
  inherit (lib) literalExpression mkEnableOption mkIf mkOption optional optionals types;
  cfg = config.services.io-engine;

  arguments =
    optionals (cfg.reactorMask != null) [ "--reactor-mask" cfg.reactorMask ]
    ++ optionals (cfg.coreList != null) [ "--core-list" cfg.coreList ]
    ++ [ "--mem-size" (toString cfg.memSizeMiB) ]
    ++ optionals (cfg.hugeDir != null) [ "--huge-dir" (toString cfg.hugeDir) ]
    ++ optional (!cfg.hugePages) "--no-huge"
    ++ [ "--rpc-socket" cfg.rpcSocket ]
    ++ optionals (cfg.configFile != null) [ "--json" (toString cfg.configFile) ]
    ++ [ "--poll-mode" cfg.pollMode ]
    ++ optionals (cfg.spinUs != null) [ "--spin-us" (toString cfg.spinUs) ]
    ++ optionals (cfg.logFilter != null) [ "-L" cfg.logFilter ]
    ++ [ "--log-format" cfg.logFormat ]
    ++ lib.concatMap (uri: [ "--bdev" uri ]) cfg.bdevs
    ++ cfg.extraArgs;
in
{
  options.services.io-engine = {
    enable = mkEnableOption "io-engine, a userspace storage engine";

    package = mkOption {
      type = types.package;
      description = "The package to run. The flake's module sets it.";
    };

    user = mkOption {
      type = types.str;
      default = "io-engine";
      description = "User that the daemon runs as; created when it is the default.";
    };

    group = mkOption {
      type = types.str;
      default = "io-engine";
      description = "Group that the daemon runs as; created when it is the default.";
    };

    extraGroups = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "disk" ];
      description = "Further groups of the daemon, such as the one that owns the block devices it uses.";
    };

    reactorMask = mkOption {
      type = types.nullOr (types.strMatching "0x[0-9a-fA-F]+");
      default = null;
      example = "0x3";
      description = "Hexadecimal mask of the cores that get a reactor. Null leaves the daemon's default.";
    };

    coreList = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "0-1,4";
      description = "The same as a list of cores; at most one of the two is set.";
    };

    memSizeMiB = mkOption {
      type = types.ints.positive;
      default = 256;
      description = "Memory for I/O buffers, in MiB.";
    };

    hugePages = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to try huge pages. The daemon falls back to ordinary pinned pages, and says so, when there are none.";
    };

    hugePages2MiB = mkOption {
      type = types.nullOr types.ints.positive;
      default = null;
      example = 128;
      description = "Number of 2 MiB huge pages that the kernel reserves at boot; null leaves the system's setting alone.";
    };

    hugeDir = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/dev/hugepages";
      description = "Mounted hugetlbfs to take the pages from; null uses anonymous huge pages.";
    };

    rpcSocket = mkOption {
      type = types.str;
      default = "/run/io-engine/rpc.sock";
      description = ''
        Path of the JSON-RPC socket. The unit has a private /tmp and /var/tmp, so a socket there could not be reached from outside.
      '';
    };

    configFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = "JSON configuration that is replayed at start.";
    };

    pollMode = mkOption {
      type = types.enum [ "adaptive" "busy" ];
      default = "adaptive";
      description = "Whether an idle reactor sleeps in the kernel (adaptive) or spins (busy).";
    };

    spinUs = mkOption {
      type = types.nullOr types.ints.unsigned;
      default = null;
      description = "Microseconds that an adaptive reactor spins before it sleeps.";
    };

    logFilter = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "info,spdk_rs::bdev=debug";
      description = "What is logged.";
    };

    logFormat = mkOption {
      type = types.enum [ "text" "json" ];
      default = "text";
      description = "Form of the log's lines.";
    };

    bdevs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "malloc:///m0?size_mb=64" ];
      description = "URIs of block devices that are created at start.";
    };

    devices = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "/dev/nvme0n1" ];
      description = "Device nodes that the unit may read and write. All others are out of its reach.";
    };

    readWritePaths = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "/srv/images" ];
      description = "Directories of file-backed devices. Everything else of the file system is read-only to the unit.";
    };

    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Further arguments of the daemon.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.reactorMask == null || cfg.coreList == null;
        message = "services.io-engine: set reactorMask or coreList, not both";
      }
      {
        assertion = cfg.hugePages || cfg.hugeDir == null;
        message = "services.io-engine: hugeDir has no use while hugePages is off";
      }
    ];

    environment.systemPackages = [ cfg.package ];

    boot.kernel.sysctl = mkIf (cfg.hugePages2MiB != null) {
      "vm.nr_hugepages" = cfg.hugePages2MiB;
    };

    users.users = mkIf (cfg.user == "io-engine") {
      io-engine = {
        isSystemUser = true;
        inherit (cfg) group;
        description = "io-engine daemon";
      };
    };
    users.groups = mkIf (cfg.group == "io-engine") { io-engine = { }; };

    systemd.services.io-engine = {
      description = "io-engine storage engine";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" "local-fs.target" ];

      serviceConfig = {
        Type = "exec";
        ExecStart = utils.escapeSystemdExecArgs ([ (lib.getExe cfg.package) ] ++ arguments);
        Restart = "on-failure";
        RestartSec = "1s";
        # SIGTERM finishes what is in flight and flushes; a slow medium may need its time.
        KillSignal = "SIGTERM";
        TimeoutStopSec = "60s";

        User = cfg.user;
        Group = cfg.group;
        SupplementaryGroups = cfg.extraGroups;
        RuntimeDirectory = "io-engine";
        RuntimeDirectoryMode = "0750";
        UMask = "0077";

        # I/O buffers are pinned, and io_uring accounts what it registers.
        LimitMEMLOCK = "infinity";
        LimitNOFILE = 65536;
        # Reactors are latency-bound; the last process to be sacrificed is the one that holds the data path.
        OOMScoreAdjust = -900;

        DevicePolicy = "closed";
        DeviceAllow = map (device: "${device} rw") cfg.devices;
        ReadWritePaths = cfg.readWritePaths ++ optional (cfg.hugeDir != null) (toString cfg.hugeDir);

        AmbientCapabilities = "";
        CapabilityBoundingSet = "";
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        NoNewPrivileges = true;
        PrivateTmp = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHome = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProtectSystem = "strict";
        RemoveIPC = true;
        RestrictAddressFamilies = [ "AF_UNIX" "AF_INET" "AF_INET6" ];
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        SystemCallErrorNumber = "EPERM";
        # Beyond the usual set: kernel AIO and io_uring, pinned memory, affinity and NUMA policy.
        SystemCallFilter = [ "@system-service" "@aio" "@memlock" "@resources" ];
      };
    };
  };
}
