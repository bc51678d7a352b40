# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# What changes under a connected host: namespaces come, go and grow, listeners go and come back, hosts lose their right.

NQN=nqn.2026-01.io.example:changes
CLOSED=nqn.2026-01.io.example:closed

suite_setup() {
    device file0 file 16 512
    device file1 file 16 512
    device memory0 memory 16 512
    subsystem "$NQN"
    namespace "$NQN" 1 file0
    listen "$NQN" "$PORT1"
    subsystem "$CLOSED" listed
    namespace "$CLOSED" 1 memory0
    listen "$CLOSED" "$PORT2"
    # Tries once a second to come back, for a minute.
    connect "$NQN" "$PORT1" -i 2 -c 1 -l 60
    echo "$controller" >"$WORK/controller"
    disk_of "$controller" 1
    echo "$disk" >"$WORK/disk1"
}

no_disk() { ! find_disk "$1" "$2" >/dev/null; }

namespace_comes() {
    controller=$(<"$WORK/controller")
    trace_on nvme/nvme_async_event
    namespace "$NQN" 2 file1
    disk_of "$controller" 2
    # A notice (2), namespace attribute (0), log page 4.
    trace_says 'NVME_AEN=0x0*40002'
    trace_off
    load "$disk" randwrite 2m --bs=4k
}

namespace_goes() {
    controller=$(<"$WORK/controller")
    trace_on nvme/nvme_async_event
    namespace_remove "$NQN" 2
    poll 20 no_disk "$controller" 2
    trace_says 'NVME_AEN=0x0*40002'
    trace_off
    load "$(<"$WORK/disk1")" randwrite 2m --bs=4k
}

namespace_goes_under_load() {
    local disk2 pid status=0
    controller=$(<"$WORK/controller")
    namespace "$NQN" 2 file1
    disk_of "$controller" 2
    disk2=$disk
    # Until it fails: every I/O in flight gets an answer, or this would hang.
    fio --name=doomed --filename="/dev/$disk2" --rw=randrw --bs=4k --size=8m --direct=1 --ioengine=libaio --iodepth=32 \
        --time_based --runtime=60 --output-format=terse >"$WORK/fio" 2>&1 &
    pid=$!
    poll 20 written "$disk2" 2000
    namespace_remove "$NQN" 2
    wait "$pid" || status=$?
    ((status != 0)) || fail 'fio did not notice that the device has gone'
    poll 20 no_disk "$controller" 2
    equal "$(state "$controller")" live 'the controller afterwards'
    load "$(<"$WORK/disk1")" randwrite 2m --bs=4k
}

namespace_grows() {
    disk=$(<"$WORK/disk1")
    equal "$(disk_bytes "$disk")" $((16 << 20)) 'the size at first'
    device_resize file0 24
    poll 20 disk_bytes_are "$disk" $((24 << 20))
    # What is beyond the old end can be used.
    load "$disk" write 4m --offset=18m --bs=64k
    nvme ns-rescan "/dev/$(<"$WORK/controller")"
    equal "$(disk_bytes "$disk")" $((24 << 20)) 'the size after a rescan'
}

listener_goes_and_comes() {
    local pid
    controller=$(<"$WORK/controller")
    disk=$(<"$WORK/disk1")
    load "$disk" randrw 4m --bs=4k --loops=4 &
    pid=$!
    poll 20 written "$disk" 500
    unlisten "$NQN" "$PORT1"
    poll 20 state_is "$controller" connecting
    listen "$NQN" "$PORT1"
    poll 30 state_is "$controller" live
    wait "$pid"
}

stranger_is_refused() {
    refused 'onnect|host|denied|Input/output' connect_as "$HOST_B" "$CLOSED" "$PORT2"
    # And so is the host that is not on the list, by nvme-cli, with the reason in the kernel's log.
    refused 'onnect|host|denied|Input/output' nvme connect -t tcp -a "$ADDRESS" -s "$PORT2" -n "$CLOSED" -q "$HOST_A" -I "${HOST_A##*:}"
    kernel_log | grep -E 'invalid host|[Cc]onnect.*(not allowed|0x4?184)|does not allow host'
    no_controller_of "$CLOSED" "$PORT2"
    # The list is for one, not for all.
    allow "$CLOSED" "$HOST_A"
    connect "$CLOSED" "$PORT2"
    disk_of "$controller" 1
    load "$disk" randwrite 1m --bs=4k
    refused 'onnect|host|denied|Input/output' connect_as "$HOST_B" "$CLOSED" "$PORT2"
    disconnect "$controller"
}

no_controller_of() { ! controller_of "$@"; }

host_is_taken_off() {
    target_can forbid-disconnects || skip 'hosts that are taken off the list stay connected to this target'
    connect "$CLOSED" "$PORT2" -c 1 -l 3
    forbid "$CLOSED" "$HOST_A"
    poll 30 gone "$controller"
}

unknown_subsystem_is_refused() {
    refused 'onnect|Input/output|argument' nvme connect -t tcp -a "$ADDRESS" -s "$PORT1" -n "$NQN-not" -q "$HOST_A" -I "${HOST_A##*:}"
    no_controller_of "$NQN-not" "$PORT1"
}

suite_checks() {
    check 'a namespace is added: the host is told' namespace_comes
    check 'a namespace is removed: the host is told' namespace_goes
    check 'a namespace is removed under load' namespace_goes_under_load
    check 'a namespace grows: the host is told; ns-rescan' namespace_grows
    check 'a listener is removed and added again under load' listener_goes_and_comes
    check 'a host that is not on the list is refused' stranger_is_refused
    check 'a host that is taken off the list is disconnected' host_is_taken_off
    check 'an unknown subsystem is refused' unknown_subsystem_is_refused
}
