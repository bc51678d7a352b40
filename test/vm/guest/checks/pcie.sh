# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# The engine's NVMe driver over PCIe, behind a virtual IOMMU, on drives of several shapes: `suites` makes them.
#
#   0000:00:10.0   512-byte blocks
#   0000:00:11.0   4096-byte blocks, transfers of 16 KiB at the most, one I/O queue
#   0000:00:12.0   two namespaces
#   0000:00:13.0   a controller memory buffer, and a second namespace, with zones of 16 MiB, 12 of which can be written
#   0000:01:00.0   a slot that a drive is plugged into and pulled out of

PLAIN=0000:00:10.0
NARROW=0000:00:11.0
DOUBLE=0000:00:12.0
ODD=0000:00:13.0
HOT=0000:01:00.0
NQN=nqn.2026-01.io.example:pcie
EXPORT_PID=$WORK/export.pid

# shellcheck source=test/vm/guest/zones.sh
source "$here/zones.sh"

# There is no target in this suite: the engine is what drives the disks.
target_up() { :; }
target_down() { export_end; }
target_log() {
    echo 'engine:'
    cat "$WORK"/*.log 2>/dev/null
}

suite_setup() {
    : "${IO_ENGINE:?the engine to test}"
    local address
    for address in "$PLAIN" "$NARROW" "$DOUBLE" "$ODD"; do
        equal "$(driver_of "$address")" vfio-pci "the driver of $address"
    done
}

driver_of() { basename "$(readlink "/sys/bus/pci/devices/$1/driver")"; }

# perf URI [OPTION…]: verified load; its report has to be without fault, and with as many I/Os as asked for.
perf() {
    "$IO_ENGINE" perf "$@" --no-huge -s 64 -w verify --json >"$WORK/report.json" 2>"$WORK/perf.log" || {
        local status=$?
        cat "$WORK/perf.log" "$WORK/report.json"
        fail "perf ended with $status"
    }
    python3 - "$WORK/report.json" <<'PYTHON'
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
    local disk=$1 block=$2 shape depth size count
    for shape in '1 4k 100' '32 4k 1000' '32 128k 60' "32 $block 500" '8 256k 30'; do
        read -r depth size count <<<"$shape"
        echo "depth $depth, $size"
        perf "pcie:///$disk" -q "$depth" -o "$size" -n "$count"
    done
}

two_cores() { perf "pcie:///$1" -m 0x3 -q 16 -o 4k -n 500; }

few_entries() { perf "pcie:///$PLAIN/1?io_queue_size=2" -q 8 -o 4k -n 200; }

flushes_and_fua() { perf "pcie:///$PLAIN/1" -q 8 -o 4k -n 200 --fua --flush-every 10; }

cases() {
    : "${BDEVIO:=}"
    [[ -n $BDEVIO ]] || skip 'BDEVIO is not given: the test binary of io-engine-test'
    IO_ENGINE_TEST_PCIE=$1 "$BDEVIO" pcie:: --test-threads 1
}

unknown_is_refused() {
    refused 'no such PCI function' "$IO_ENGINE" perf pcie:///0000:00:1d.0/1 --no-huge -s 64 -n 1
    refused 'is no NVMe controller' "$IO_ENGINE" perf pcie:///0000:00:1f.0/1 --no-huge -s 64 -n 1
    refused 'has the namespaces 1, 2' "$IO_ENGINE" perf "pcie:///$DOUBLE" --no-huge -s 64 -n 1
    refused 'has the namespaces 1, 2' "$IO_ENGINE" perf "pcie:///$DOUBLE/3" --no-huge -s 64 -n 1
    refused 'another process has it' second_user
}

second_user() {
    export_start "$PLAIN/1"
    local status=0
    "$IO_ENGINE" perf "pcie:///$PLAIN/1" --no-huge -s 64 -n 1 || status=$?
    export_end
    return "$status"
}

controllers_are_listed() {
    "$IO_ENGINE" pci list | tee "$WORK/list"
    local address
    for address in "$PLAIN" "$NARROW" "$DOUBLE" "$ODD"; do grep -q "$address.*vfio-pci" "$WORK/list"; done
    "$IO_ENGINE" pci status "$PLAIN" | grep 'ready as pcie:///0000:00:10.0'
    "$IO_ENGINE" pci list -o json | python3 -c 'import json, sys; assert len(json.load(sys.stdin)) == 4'
}

# export_start DISK: the engine's target on this machine with a disk behind PCIe, and the kernel's host on it; sets `disk`.
export_start() {
    setsid "$IO_ENGINE" export "pcie:///$1" --nqn "$NQN" --no-huge -s 64 >>"$WORK/export.log" 2>&1 </dev/null &
    echo $! >"$EXPORT_PID"
    poll 30 listens
}

listens() { [[ -n $(ss -Htln "sport = :$PORT1") ]]; }

export_ended() { ! kill -0 "$(<"$EXPORT_PID")" 2>/dev/null; }

export_end() {
    [[ -e $EXPORT_PID ]] || return 0
    disconnect_all
    if ! export_ended; then kill -s TERM "$(<"$EXPORT_PID")"; fi
    poll 20 export_ended
    rm "$EXPORT_PID"
}

# The disk by which the kernel's own driver knows a controller; sets `disk`.
kernel_disk() {
    modprobe nvme
    "$IO_ENGINE" pci bind "$1" --driver nvme
    poll 20 find_local "$1" >/dev/null
    disk=$(find_local "$1")
}

find_local() {
    local path
    for path in "/sys/bus/pci/devices/$1"/nvme/nvme*; do
        if [[ -e $path ]] && find_disk "${path##*/}" 1; then return 0; fi
    done
    return 1
}

sum() { dd if="/dev/$1" bs=64k count=64 iflag=direct status=none | sha256sum | cut -d' ' -f1; }

# What one of the two drivers writes, the other reads, both ways.
same_contents() {
    local wrote
    head -c 4194304 /dev/urandom >"$WORK/random"
    wrote=$(sha256sum <"$WORK/random" | cut -d' ' -f1)
    export_start "$PLAIN/1"
    connect "$NQN" "$PORT1"
    disk_of "$controller" 1
    dd if="$WORK/random" of="/dev/$disk" bs=64k oflag=direct conv=fsync status=none
    export_end
    kernel_disk "$PLAIN"
    equal "$(sum "$disk")" "$wrote" 'what the kernel reads'
    head -c 4194304 /dev/urandom >"$WORK/random"
    wrote=$(sha256sum <"$WORK/random" | cut -d' ' -f1)
    dd if="$WORK/random" of="/dev/$disk" bs=64k oflag=direct conv=fsync status=none
    "$IO_ENGINE" pci bind "$PLAIN"
    equal "$(driver_of "$PLAIN")" vfio-pci 'the driver'
    export_start "$PLAIN/1"
    connect "$NQN" "$PORT1"
    disk_of "$controller" 1
    equal "$(sum "$disk")" "$wrote" 'what the engine reads'
    export_end
}

disks_in_use_stay() {
    kernel_disk "$PLAIN"
    refused 'bound to nvme, not vfio-pci: io-engine pci bind 0000:00:10.0' \
        "$IO_ENGINE" perf "pcie:///$PLAIN/1" --no-huge -s 64 -n 1
    mkfs.ext4 -q -F "/dev/$disk"
    mkdir -p "$WORK/mnt"
    mount "/dev/$disk" "$WORK/mnt"
    refused "$disk is mounted at .*mnt; nothing was changed" "$IO_ENGINE" pci bind "$PLAIN"
    touch "$WORK/mnt/still-there"
    umount "$WORK/mnt"
    mkswap "/dev/$disk" >/dev/null
    swapon "/dev/$disk"
    refused "$disk is swap space" "$IO_ENGINE" pci bind "$PLAIN"
    swapoff "/dev/$disk"
    "$IO_ENGINE" pci bind "$PLAIN"
    "$IO_ENGINE" pci unbind "$PLAIN" | grep 'nvme has it'
    "$IO_ENGINE" pci bind "$PLAIN"
    equal "$(driver_of "$PLAIN")" vfio-pci 'the driver'
}

# says WORDS URI [OPTION…]: verified load on a controller of which the engine says these words.
says() {
    local words=$1
    shift
    perf "$@" -L info
    grep -q "$words" "$WORK/perf.log" || { cat "$WORK/perf.log"; fail "nothing was said of '$words'"; }
}

doorbells() {
    perf "pcie:///$PLAIN/1?shadow_doorbells=true" -q 32 -o 4k -n 1000
    says 'shadow doorbells' "pcie:///$PLAIN/1?shadow_doorbells=true" -q 1 -o 4k -n 100
    perf "pcie:///$PLAIN/1?shadow_doorbells=false" -q 32 -o 4k -n 1000
    if grep -q 'shadow doorbells' "$WORK/perf.log"; then fail 'shadow doorbells although they are switched off'; fi
    perf "pcie:///$PLAIN/1?io_queue_size=3&shadow_doorbells=true" -q 8 -o 4k -n 500
}

# Linux and the engine use a controller by turns, and a queue of the engine's comes and goes while the shadows stay.
shadows_last() {
    local round
    for round in 1 2 3; do
        kernel_disk "$PLAIN"
        sum "$disk" >/dev/null
        "$IO_ENGINE" pci bind "$PLAIN"
        says 'shadow doorbells' "pcie:///$PLAIN/1" -q 32 -o 4k -n 200
    done
    daemon_start
    rpc bdev_nvme_attach_controller "{\"name\": \"d\", \"trtype\": \"PCIe\", \"traddr\": \"$PLAIN\"}"
    has_line 'shadow doorbells are used' <"$WORK/daemon.log"
    rpc pool_create '{"name": "p", "disk": "bdev:///dn1"}'
    for round in 1 2 3; do
        rpc pool_export '{"name": "p"}'
        rpc pool_import '{"disk": "bdev:///dn1"}'
    done
    export_end
}

controller_memory() {
    local depth
    for depth in 1 32; do
        says 'submission queues are in the memory' "pcie:///$ODD/1?cmb_sqs=true" -q "$depth" -o 4k -n 500
    done
    perf "pcie:///$ODD/1?cmb_sqs=true&shadow_doorbells=false" -q 32 -o 128k -n 60
    refused 'cmb_sqs cannot be done: the controller has no memory buffer' \
        "$IO_ENGINE" perf "pcie:///$PLAIN/1?cmb_sqs=true" --no-huge -s 64 -n 1
}

# json FILE EXPRESSION: whether a Python expression of `it`, the JSON in the file, is true.
json() {
    python3 -c 'import json, sys; it = json.load(open(sys.argv[1])); sys.exit(not eval(sys.argv[2]))' "$1" "$2" ||
        { cat "$1"; fail "not so: $2"; }
}

nvme_json() { "$IO_ENGINE" nvme "$@" -o json >"$WORK/nvme.json"; }

told_of_itself() {
    nvme_json identify "pcie:///$PLAIN"
    json "$WORK/nvme.json" '"QEMU" in it["mn"] and it["sn"] == "vm0" and "format" in it["admin_commands"]'
    nvme_json identify "pcie:///$NARROW/1"
    json "$WORK/nvme.json" '[f["block_size"] for f in it["lbafs"] if f["in_use"]] == [4096]'
    nvme_json smart "pcie:///$PLAIN"
    json "$WORK/nvme.json" '0 < it["temperature_celsius"] < 100 and it["critical_warnings"] == []'
    nvme_json error-log "pcie:///$PLAIN"
    nvme_json fw "pcie:///$PLAIN"
    json "$WORK/nvme.json" 'it[0]["slot"] == 1 and it[0]["active"]'
    "$IO_ENGINE" nvme identify "pcie:///$PLAIN/1" | has_line 'performance'
}

formats() {
    refused 'force is needed' "$IO_ENGINE" nvme format "pcie:///$DOUBLE/1" --block-size 4096 </dev/null
    "$IO_ENGINE" nvme format "pcie:///$DOUBLE/1" --block-size 4096 --force
    nvme_json identify "pcie:///$DOUBLE/1"
    json "$WORK/nvme.json" '[f["block_size"] for f in it["lbafs"] if f["in_use"]] == [4096]'
    perf "pcie:///$DOUBLE/1" -q 8 -o 4k -n 200
    refused 'there are' "$IO_ENGINE" nvme format "pcie:///$DOUBLE/1" --block-size 65536 --force
    "$IO_ENGINE" nvme format "pcie:///$DOUBLE/1" --lbaf 0 --force
    perf "pcie:///$DOUBLE/1" -q 8 -o 512 -n 200
}

# Through a daemon: what is open is not formatted, and a new format is a new device.
formats_of_a_daemon() {
    local socket=$WORK/nvme.sock
    setsid "$IO_ENGINE" --no-huge -s 64 -r "$socket" >>"$WORK/export.log" 2>&1 </dev/null &
    echo $! >"$EXPORT_PID"
    poll 30 "$IO_ENGINE" rpc -r "$socket" spdk_get_version
    # With the switches that SPDK's client always sends.
    "$IO_ENGINE" rpc -r "$socket" bdev_nvme_attach_controller "{\"name\": \"d\", \"trtype\": \"pcie\", \"traddr\": \"$DOUBLE\",
        \"hdgst\": false, \"ddgst\": false, \"prchk_reftag\": false, \"prchk_guard\": false, \"allow_unrecognized_csi\": false}"
    "$IO_ENGINE" rpc -r "$socket" framework_get_pci_devices >"$WORK/pci.json"
    json "$WORK/pci.json" "[one[\"address\"] for one in it] == [\"$DOUBLE\"] and len(it[0][\"config_space\"]) >= 512"
    "$IO_ENGINE" rpc -r "$socket" bdev_passthru_create '{"base_bdev_name": "dn2", "name": "p"}'
    "$IO_ENGINE" nvme list -r "$socket" | grep "d .*$DOUBLE.*dn1, dn2"
    refused 'needs device .dn2. for itself' "$IO_ENGINE" nvme format dn2 --block-size 4096 --force -r "$socket"
    "$IO_ENGINE" rpc -r "$socket" bdev_passthru_delete '{"name": "p"}'
    # By the URI, too, it is the daemon's.
    "$IO_ENGINE" nvme format "pcie:///$DOUBLE/2" --block-size 4096 --force -r "$socket"
    "$IO_ENGINE" bdev list dn2 -o json -r "$socket" >"$WORK/nvme.json"
    json "$WORK/nvme.json" 'it[0]["block_size"] == 4096'
    "$IO_ENGINE" nvme detach-ns dn2 -r "$socket"
    refused 'dn2' "$IO_ENGINE" bdev list dn2 -r "$socket"
    "$IO_ENGINE" nvme attach-ns d --nsid 2 -r "$socket"
    "$IO_ENGINE" nvme format dn2 --lbaf 0 --force -r "$socket"
    "$IO_ENGINE" bdev list dn2 -o json -r "$socket" >"$WORK/nvme.json"
    json "$WORK/nvme.json" 'it[0]["block_size"] == 512'
    "$IO_ENGINE" nvme smart d -r "$socket" | grep temperature
    export_end
}

# A process that is killed leaves a controller that the next one can use.
killed_and_used_again() {
    "$IO_ENGINE" perf "pcie:///$PLAIN/1" --no-huge -s 64 -w randwrite -q 32 -t 60 >/dev/null 2>&1 &
    local pid=$!
    sleep 3
    kill -s KILL "$pid"
    wait "$pid" || true
    perf "pcie:///$PLAIN/1" -q 8 -o 4k -n 100
}

# QEMU tells of every flush that the drive gets.
flushes() { grep -c '^pci_nvme_flush_ns' /run/job/qemu.log || true; }

flushes_arrive() {
    local before after sent
    before=$(flushes)
    perf "pcie:///$PLAIN/1" -q 8 -o 4k -n 200 --flush-every 10
    sent=$(python3 -c "
import json
ops = json.load(open('$WORK/report.json'))['jobs'][0]['ops']
print(sum(op['ios'] for op in ops if op['op'] == 'flush'))")
    after=$(flushes)
    echo "sent $sent, before $before, after $after"
    ((sent > 0)) || fail 'no flush was sent'
    # The end of a run flushes as well.
    ((after - before >= sent)) || fail "the drive got $((after - before)) flushes of $sent"
}

plug() {
    poll 20 monitor device_add '{"driver": "nvme", "id": "hot", "serial": "vm4", "drive": "hot", "bus": "port1"}'
    poll 20 test -e "/sys/bus/pci/devices/$HOT/driver_override"
    # The kernel's own driver may be looking at it at this moment.
    poll 20 "$IO_ENGINE" pci bind "$HOT"
    equal "$(driver_of "$HOT")" vfio-pci 'the driver'
}

gone() { [[ ! -e /sys/bus/pci/devices/$HOT ]]; }

unplug() {
    monitor device_del '{"id": "hot"}'
    poll 30 gone
}

# Whoever drives a disk that is pulled out lets go of it at once, although there is load.
unplugged_under_load() {
    plug
    perf "pcie:///$HOT/1" -q 8 -o 4k -n 100
    "$IO_ENGINE" perf "pcie:///$HOT/1" --no-huge -s 64 -w randwrite -q 32 -t 3600 >"$WORK/load.log" 2>&1 &
    local pid=$! status=0
    sleep 3
    kill -0 "$pid"
    unplug
    # The device is gone for the kernel: whoever held it has closed it. The load ends long before its time is over.
    wait "$pid" || status=$?
    grep -v 'a turn took too long' "$WORK/load.log"
    equal "$status" 1 'the status of the load'
    grep -q 'the device went away, its load ended early' "$WORK/load.log"
    grep -q 'the kernel wants the PCI function back' "$WORK/load.log"
    grep -q 'first: write: the device is gone' "$WORK/load.log"
}

# An error on the way to a drive, as the root port reports it: the controller is reset, and the load goes on.
bus_errors() {
    plug
    "$IO_ENGINE" perf "pcie:///$HOT/1" --no-huge -s 64 -w verify -q 8 -o 4k -t 10 -L info >"$WORK/load.log" 2>&1 &
    local pid=$! status=0
    poll 20 grep -q 'the load runs' "$WORK/load.log"
    monitor human-monitor-command '{"command-line": "pcie_aer_inject_error port1 COMP_TIME"}' | tee "$WORK/injected"
    grep -q 'OK id: port1' "$WORK/injected"
    wait "$pid" || status=$?
    grep -v 'a turn took too long' "$WORK/load.log"
    grep -q 'the bus reports an error that was not corrected' "$WORK/load.log"
    equal "$status" 0 'the status of the load'
    unplug
}

RPC=$WORK/pcie.sock

rpc() { "$IO_ENGINE" rpc -r "$RPC" "$@"; }

# daemon_start [OPTION…]
daemon_start() {
    setsid "$IO_ENGINE" -r "$RPC" --no-huge -s 64 "$@" >"$WORK/daemon.log" 2>&1 </dev/null &
    echo $! >"$EXPORT_PID"
    poll 30 rpc spdk_get_version >/dev/null
}

has_bdev() { rpc bdev_get_bdevs | has_line "\"${HOT}n1\""; }

has_no_bdev() { ! has_bdev; }

told() { rpc notify_get_notifications | has_line "\"$1\""; }

# The daemon finds what is plugged in, serves it, survives that it is pulled out under load, and finds it again.
hot_plug() {
    local round size load
    daemon_start -A "$HOT"
    refused 'is not among those that are allowed' rpc bdev_nvme_attach_controller \
        "{\"name\": \"x\", \"trtype\": \"PCIe\", \"traddr\": \"$PLAIN\"}"
    rpc bdev_nvme_set_hotplug '{"enable": true}'
    rpc nvmf_create_transport '{"trtype": "TCP"}'
    rpc nvmf_create_subsystem "{\"nqn\": \"$NQN\", \"allow_any_host\": true}"
    rpc nvmf_subsystem_add_listener "{\"nqn\": \"$NQN\", \"listen_address\":
        {\"trtype\": \"TCP\", \"adrfam\": \"IPv4\", \"traddr\": \"127.0.0.1\", \"trsvcid\": \"$PORT1\"}}"
    for round in 1 2; do
        echo "round $round"
        plug
        poll 20 has_bdev
        rpc nvmf_subsystem_add_ns "{\"nqn\": \"$NQN\", \"namespace\": {\"bdev_name\": \"${HOT}n1\"}}"
        connect "$NQN" "$PORT1"
        disk_of "$controller" 1
        size=$(blockdev --getsize64 "/dev/$disk")
        equal "$size" $((256 << 20)) 'the size'
        dd if=/dev/urandom of="/dev/$disk" bs=64k oflag=direct status=none 2>/dev/null &
        load=$!
        sleep 2
        unplug
        poll 20 has_no_bdev
        told bdev_unplugged
        poll 20 told nvme_controller_removed
        # Not for the daemon, which goes on.
        wait "$load" || true
        disconnect_all
        rpc spdk_get_version >/dev/null
    done
    told nvme_controller_added
    rpc save_config | has_line bdev_nvme_set_hotplug
    export_end
}

# The IOMMU tells of every transfer to an address that was not mapped.
no_faults() {
    dmesg | has_line 'DMAR: .*Queued invalidation'
    if dmesg | grep -E 'DMAR:.*(fault|DMA (Read|Write))'; then fail 'the IOMMU caught a transfer'; fi
}

suite_checks() {
    check 'the controllers are listed' controllers_are_listed
    check 'verified load: 512-byte blocks' shapes "$PLAIN/1" 512
    check 'verified load: 4096-byte blocks, small transfers, one queue' shapes "$NARROW/1" 4096
    check 'verified load: the second of two namespaces' shapes "$DOUBLE/2" 512
    check 'verified load: a controller memory buffer' shapes "$ODD/1" 512
    check 'two cores, a queue each' two_cores "$PLAIN/1"
    check 'two cores, one queue' two_cores "$NARROW/1"
    check 'a queue of two entries' few_entries
    check 'flushes and FUA' flushes_and_fua
    check 'shadow doorbells on and off' doorbells
    check 'shadow doorbells last' shadows_last
    check 'submission queues in the memory of the controller' controller_memory
    check 'what a controller tells of itself' told_of_itself
    check 'formats' formats
    check 'formats through a daemon' formats_of_a_daemon
    CHECK_LIMIT=120
    check 'zones are reported, opened, closed, finished and reset' zones_are_managed
    check 'zones have write pointers' zones_have_write_pointers
    check 'verified load: zones' zones_under_load
    check 'zones as the kernel sees them' kernel_sees_the_same_zones
    CHECK_LIMIT=180
    check 'every driver case: 512-byte blocks' cases "$PLAIN/1"
    check 'every driver case: 4096-byte blocks' cases "$NARROW/1"
    check 'every driver case: without SGLs' cases "$PLAIN/1?sgl=false"
    check 'every driver case that zones can have' zoned_cases
    check 'every driver case: queues in the memory of the controller' cases "$ODD/1?cmb_sqs=true"
    CHECK_LIMIT=60
    check 'what cannot be is refused' unknown_is_refused
    check 'the kernel reads the same, and the other way round' same_contents
    check 'disks in use stay where they are' disks_in_use_stay
    check 'a controller whose process was killed' killed_and_used_again
    check 'flushes arrive at the drive' flushes_arrive
    CHECK_LIMIT=120
    check 'an error of the bus under load' bus_errors
    check 'a drive is pulled out under load' unplugged_under_load
    check 'drives come and go under load' hot_plug
    CHECK_LIMIT=60
    check 'no fault of the IOMMU' no_faults
}
