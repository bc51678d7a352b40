# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# The engine's initiator against the kernel's target: verified load in every shape, targets that go and come back, paths
# that may not be used for a while.

NQN=nqn.2026-01.io.example:initiator
EXPORT=nqn.2026-01.io.example:export

# The target of this suite is the kernel's; the engine's functions are had by `engine FUNCTION ARGUMENT…`.
# shellcheck source=test/vm/guest/target-nvmet.sh
source "$here/target-nvmet.sh"

engine() {
    (
        # shellcheck source=test/vm/guest/target-engine.sh
        source "$here/target-engine.sh"
        "$@"
    )
}

suite_setup() {
    : "${IO_ENGINE:?the engine to test}"
    device disk512 memory 32 512
    device disk4096 memory 32 4096
    device disk3 memory 32 512
    subsystem "$NQN"
    namespace "$NQN" 1 disk512
    namespace "$NQN" 2 disk4096
    listen "$NQN" "$PORT1"
}

# uri PORT NSID [PARAMETERS]
uri() { echo "nvmf://127.0.0.1:$1/$NQN?ns=$2${3:+&$3}"; }

# perf URI [OPTION…]: verified load; its report has to be without fault, and with as many I/Os as asked for.
perf() {
    "$IO_ENGINE" perf "$@" --no-huge -s 128 -w verify --json >"$WORK/report.json" 2>"$WORK/perf.log" || {
        local status=$?
        cat "$WORK/perf.log" "$WORK/report.json"
        fail "perf ended with $status"
    }
    faultless "$WORK/report.json"
}

faultless() {
    python3 - "$1" <<'PYTHON'
import json, sys
jobs = json.load(open(sys.argv[1]))["jobs"]
assert jobs, "no job"
for job in jobs:
    assert job["errors"] == 0 and job["mismatches"] == 0, job
    ios = {op["op"]: op["ios"] for op in job["ops"]}
    assert ios["write"] > 0 and ios["read"] >= ios["write"], job
    print(ios)
PYTHON
}

shapes() {
    local digests=$1 nsid=$2 block=$3 shape depth size count
    for shape in '1 4k 100' '32 4k 1000' '32 128k 100' "32 $block 500" '8 256k 60'; do
        read -r depth size count <<<"$shape"
        echo "depth $depth, $size"
        perf "$(uri "$PORT1" "$nsid" "$digests")" -q "$depth" -o "$size" -n "$count"
    done
}

two_cores() { perf "$(uri "$PORT1" 1)" -m 0x3 -q 16 -o 4k -n 1000; }

flushes_and_fua() { perf "$(uri "$PORT1" 1)" -q 8 -o 4k -n 200 --fua --flush-every 10; }

unknown_is_refused() {
    refused 'onnect|subsystem|refused' "$IO_ENGINE" perf "nvmf://127.0.0.1:$PORT1/$NQN-not?ns=1" --no-huge -s 64 -n 1
    refused 'onnect|refused' "$IO_ENGINE" perf "nvmf://127.0.0.1:9/$NQN?ns=1&ctrlr_loss_timeout_sec=2" --no-huge -s 64 -n 1
}

# A device with zones of 4 MiB, 3 of which can be written, behind the kernel's target.
zones() {
    local null=/sys/kernel/config/nullb/zoned item
    modprobe null_blk nr_devices=0
    mkdir "$null"
    for item in size=64 blocksize=512 memory_backed=1 zoned=1 zone_size=4 zone_capacity=3 zone_max_open=4 power=1; do
        echo "${item#*=}" >"$null/${item%%=*}"
    done
    device zoned disk "$(null_disk "$null")" 512
    namespace "$NQN" 3 zoned
    "$IO_ENGINE" nvme zns report-zones "$(uri "$PORT1" 3)" -o json >"$WORK/zones.json"
    python3 - "$WORK/zones.json" <<'PYTHON'
import json, sys
zones = json.load(open(sys.argv[1]))["zones"]
assert [(zone["slba"], zone["cap"]) for zone in zones] == [(i * 8192, 6144) for i in range(16)], zones
PYTHON
    perf "$(uri "$PORT1" 3)" -q 8 -o 4k -n 500
    # More than one command takes, and more than a pass.
    perf "$(uri "$PORT1" 3)" -q 2 -o 1M -n 100
    "$IO_ENGINE" perf "$(uri "$PORT1" 3)" --no-huge -s 64 -w write -q 4 -o 64k -n 500
    "$IO_ENGINE" nvme zns finish-zone "$(uri "$PORT1" 3)" -s 8192
    "$IO_ENGINE" nvme zns report-zones "$(uri "$PORT1" 3)" -s 8192 -d 1 | has_line ' full '
    refused 'invalid|refused' "$IO_ENGINE" nvme zns open-zone "$(uri "$PORT1" 3)" -s 5
    namespace_remove "$NQN" 3
    echo 0 >"$null/power"
    rmdir "$null"
}

# null_disk DIRECTORY: the device of null_blk that its directory stands for.
null_disk() {
    local disk=/dev/${1##*/}
    if [[ ! -b $disk ]]; then disk=/dev/nullb$(<"$1/index"); fi
    echo "$disk"
}

# connections PORT: how many are established.
connections() { ss -Htn state established "dport = :$1" | wc -l; }

connected() { (($(connections "$1") > 0)); }
disconnected() { (($(connections "$1") == 0)); }

# The writes that the target's device has completed.
device_writes() {
    local fields
    read -ra fields <"/sys/block/$(basename "$(<"$WORK/devices/$1")")/stat"
    echo "${fields[4]}"
}

more_writes() { (($(device_writes "$1") > $2)); }

# The load runs until it has seen everything: how long that takes is up to the machine.
reconnects() {
    local pid before round
    "$IO_ENGINE" perf "$(uri "$PORT1" 1 'hdgst=true&ddgst=true&ctrlr_loss_timeout_sec=60&reconnect_delay_sec=1')" --no-huge -s 128 \
        -w verify -q 16 -o 4k -t 600 --json >"$WORK/report.json" 2>"$WORK/perf.log" &
    pid=$!
    for round in 1 2; do
        before=$(device_writes disk512)
        poll 30 more_writes disk512 $((before + 100))
        unlisten "$NQN" "$PORT1"
        poll 30 disconnected "$PORT1"
        listen "$NQN" "$PORT1"
        before=$(device_writes disk512)
        poll 40 more_writes disk512 $((before + 50))
        echo "came back for the time $round"
    done
    kill -TERM "$pid"
    wait "$pid" || fail "perf ended with $?: $(<"$WORK/perf.log")"
    faultless "$WORK/report.json"
}

# The kernel's target with two ports, the engine's initiator with both as paths of one device, that device exported by the
# engine's target, and the Linux host with verified load on it.
fails_over() {
    listen "$NQN" "$PORT2"
    engine target_up
    local port
    for port in "$PORT1" "$PORT2"; do
        engine rpc bdev_nvme_attach_controller "{\"name\": \"far\", \"trtype\": \"TCP\", \"adrfam\": \"IPv4\", \"traddr\": \"127.0.0.1\",
            \"trsvcid\": \"$port\", \"subnqn\": \"$NQN\", \"multipath\": \"multipath\", \"ctrlr_loss_timeout_sec\": 60, \"reconnect_delay_sec\": 1}"
    done
    engine rpc bdev_nvme_get_controllers
    engine subsystem "$EXPORT"
    engine namespace "$EXPORT" 1 farn1
    engine listen "$EXPORT" "$PORT3"
    connect "$EXPORT" "$PORT3" -i 2
    disk_of "$controller" 1
    keep_loading "$disk" 4m
    poll 30 progress "$disk" 100
    # One path, the other one, one that is gone.
    ana "$NQN" "$PORT1" 1 inaccessible
    poll 30 progress "$disk" 100
    ana "$NQN" "$PORT1" 1 optimized
    ana "$NQN" "$PORT2" 1 inaccessible
    poll 30 progress "$disk" 100
    ana "$NQN" "$PORT2" 1 optimized
    unlisten "$NQN" "$PORT1"
    poll 30 disconnected "$PORT1"
    poll 30 progress "$disk" 100
    listen "$NQN" "$PORT1"
    poll 30 connected "$PORT1"
    # The other one in turn.
    unlisten "$NQN" "$PORT2"
    poll 30 progress "$disk" 100
    stop_loading
    disconnect "$controller"
    engine target_down
}

namespaces_come_and_go() {
    engine target_up
    engine rpc bdev_nvme_attach_controller "{\"name\": \"far\", \"trtype\": \"TCP\", \"adrfam\": \"IPv4\", \"traddr\": \"127.0.0.1\",
        \"trsvcid\": \"$PORT1\", \"subnqn\": \"$NQN\"}"
    poll 20 has_device farn1
    poll 20 has_device farn2
    namespace "$NQN" 3 disk3
    poll 20 has_device farn3
    device_resize disk3 48
    poll 20 has_blocks farn3 98304
    namespace_remove "$NQN" 3
    poll 20 lacks_device farn3
    engine target_down
}

has_device() { engine rpc bdev_get_bdevs "{\"name\": \"$1\"}" >"$WORK/bdev" 2>&1; }
lacks_device() { ! has_device "$1"; }
has_blocks() { has_device "$1" && grep -q "\"num_blocks\": $2,\{0,1\}\$" "$WORK/bdev"; }

discovers() {
    engine target_up
    engine rpc bdev_nvme_start_discovery "{\"name\": \"disc\", \"trtype\": \"TCP\", \"adrfam\": \"IPv4\", \"traddr\": \"127.0.0.1\",
        \"trsvcid\": \"$PORT1\", \"wait_for_attach\": true}"
    engine rpc bdev_get_bdevs | tee "$WORK/bdev"
    equal "$(grep -c '"driver": "nvme"' "$WORK/bdev")" 2 'devices that came of discovery'
    engine target_down
}

# What a failed check has left.
suite_end() { engine target_down; }

suite_checks() {
    local digests
    CHECK_LIMIT=120
    for digests in '' hdgst=true ddgst=true 'hdgst=true&ddgst=true'; do
        check "initiator: verified load, blocks of 512; ${digests:-no digests}" shapes "$digests" 1 512
    done
    check 'initiator: verified load, blocks of 4096; both digests' shapes 'hdgst=true&ddgst=true' 2 4096
    check 'initiator: two cores, each with a queue' two_cores
    check 'initiator: FUA and flushes' flushes_and_fua
    check 'initiator: a device with zones' zones
    check 'initiator: unknown subsystems and dead ports are refused' unknown_is_refused
    check 'initiator: the target goes and comes back under load' reconnects
    check 'initiator: namespaces come, grow and go' namespaces_come_and_go
    check 'initiator: discovery' discovers
    check 'initiator: two paths and their ANA states under load' fails_over
    CHECK_LIMIT=60
}
