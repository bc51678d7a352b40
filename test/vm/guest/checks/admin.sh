# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# Admin commands as nvme-cli and the kernel send them, and single I/O commands.

NQN=nqn.2026-01.io.example:admin

suite_setup() {
    device memory0 memory 64 512
    device file0 file 32 4096
    subsystem "$NQN"
    namespace "$NQN" 1 memory0
    namespace "$NQN" 2 file0
    listen "$NQN" "$PORT1"
    connect "$NQN" "$PORT1" -i 2
    echo "$controller" >"$WORK/controller"
    disk_of "$controller" 1
    echo "$disk" >"$WORK/disk1"
    disk_of "$controller" 2
    echo "$disk" >"$WORK/disk2"
}

# Every check: the controller and the disks of blocks of 512 and of 4096 bytes.
things() {
    controller=$(<"$WORK/controller")
    disk=$(<"$WORK/disk1")
    disk4k=$(<"$WORK/disk2")
}

lists() {
    things
    nvme list | tee "$WORK/list"
    grep -q "^/dev/$disk " "$WORK/list"
    grep -q "^/dev/$disk4k " "$WORK/list"
    nvme list-subsys | tee "$WORK/list"
    grep -q "NQN=$NQN" "$WORK/list"
    grep -q "$controller tcp .*live" "$WORK/list"
}

identifies_controller() {
    things
    nvme id-ctrl "/dev/$controller" | tee "$WORK/id"
    equal "$(field subnqn <"$WORK/id")" "$NQN" subnqn
    equal "$(field sn <"$WORK/id")" 'serial-admin' sn
    equal "$(field cntrltype <"$WORK/id")" 1 cntrltype
    (($(field nn <"$WORK/id") >= 2)) || fail 'nn is too small'
    (($(field ver <"$WORK/id") >= 0x10300)) || fail 'older than 1.3'
    # Fabrics: keep-alive, SGLs, a capsule of at least a command, no host memory buffer.
    (($(field kas <"$WORK/id") > 0)) || fail 'no keep-alive'
    (($(field sgls <"$WORK/id") & 3)) || fail 'no SGLs'
    (($(field ioccsz <"$WORK/id") >= 4)) || fail 'ioccsz'
    equal "$(field iorcsz <"$WORK/id")" 1 iorcsz
    (($(field maxcmd <"$WORK/id") > 0)) || fail 'maxcmd'
    # Flush, write zeroes and deallocate are what every device can do.
    (($(field oncs <"$WORK/id") & 0x4)) || fail 'oncs without deallocate'
    (($(field oncs <"$WORK/id") & 0x8)) || fail 'oncs without write zeroes'
    # Reports ANA, and several controllers of the subsystem at once.
    (($(field cmic <"$WORK/id") & 0x8)) || fail 'cmic without ANA'
    (($(field anagrpmax <"$WORK/id") >= 1)) || fail 'anagrpmax'
}

identifies_namespaces() {
    things
    nvme id-ns "/dev/$disk" | tee "$WORK/id"
    equal $(($(field nsze <"$WORK/id"))) $((64 * 2048)) 'nsze of 64 MiB in blocks of 512'
    grep -q 'lbads:9 .*in use' "$WORK/id"
    nvme id-ns "/dev/$disk4k" | tee "$WORK/id"
    equal $(($(field nsze <"$WORK/id"))) $((32 * 256)) 'nsze of 32 MiB in blocks of 4096'
    grep -q 'lbads:12 .*in use' "$WORK/id"
    nvme list-ns "/dev/$controller" | tee "$WORK/list"
    equal "$(wc -l <"$WORK/list")" 2 'the number of active namespaces'
    equal "$(<"/sys/block/$disk/queue/logical_block_size")" 512 'the block size that Linux sees'
    equal "$(<"/sys/block/$disk4k/queue/logical_block_size")" 4096 'the block size that Linux sees'
}

describes_namespaces() {
    things
    nvme ns-descs "/dev/$controller" -n 1 | tee "$WORK/descs"
    matches "$(field uuid <"$WORK/descs")" '^[0-9a-f-]{36}$' 'the UUID of namespace 1'
    nvme ns-descs "/dev/$controller" -n 2 | tee "$WORK/descs2"
    [[ $(field uuid <"$WORK/descs") != "$(field uuid <"$WORK/descs2")" ]] || fail 'two namespaces, one UUID'
    refused 'INVALID_NS|Invalid Namespace' nvme ns-descs "/dev/$controller" -n 17
}

reports_write_cache() {
    things
    target_can write-cache || skip 'the namespaces of this target all have a write cache'
    # One controller, one bit: one of the devices has a write cache.
    (($(nvme id-ctrl "/dev/$controller" | field vwc) & 1)) || fail 'vwc is 0 though a device has a write cache'
    equal "$(<"/sys/block/$disk4k/queue/write_cache")" 'write back' 'the write cache that Linux sees'
}

smart_log() {
    things
    nvme smart-log "/dev/$controller" | tee "$WORK/log-page"
    equal "$(field critical_warning <"$WORK/log-page")" 0 critical_warning
    # What was read is counted, in thousands of 512 bytes.
    dd if="/dev/$disk" of=/dev/null bs=1M count=16 iflag=direct status=none
    nvme smart-log "/dev/$controller" | tee "$WORK/log-page"
    (($(field 'Data Units Read' <"$WORK/log-page" | sed 's/[^0-9].*//') >= 16)) || fail 'data units read do not count'
    (($(field host_read_commands <"$WORK/log-page") > 0)) || fail 'host_read_commands do not count'
}

log_pages() {
    things
    nvme error-log "/dev/$controller" >"$WORK/log-page"
    grep -q '^Error Log Entries' "$WORK/log-page"
    nvme fw-log "/dev/$controller" | tee "$WORK/log-page"
    if target_can firmware-text; then
        matches "$(field afi <"$WORK/log-page")" '^0x1' 'the active firmware slot'
    fi
    nvme changed-ns-list-log "/dev/$controller"
    nvme get-log "/dev/$controller" -i 0x02 -l 512 -o 256 -b | wc -c
}

effects_log() {
    things
    nvme effects-log "/dev/$controller" -c 0 | tee "$WORK/log-page"
    local name
    for name in 'Identify' 'Get Log Page' 'Set Features' 'Keep Alive' 'Async' 'Flush' 'Write' 'Read'; do
        grep -qi "^ACS.*$name\|^IOCS.*$name" "$WORK/log-page" || fail "the log does not name $name"
    done
}

ana_log() {
    things
    nvme ana-log "/dev/$controller" -o json | tee "$WORK/log-page"
    grep -qi 'optimized' "$WORK/log-page"
    equal "$(ana_state "$controller" 1)" optimized 'the state that Linux sees'
}

features() {
    things
    # Number of queues: as many as asked for, both counts from zero.
    nvme get-feature "/dev/$controller" -f 0x07 | tee "$WORK/feature"
    matches "$(<"$WORK/feature")" 'value: *(0x)?[0-9a-f]{6,8}' 'number of queues'
    nvme get-feature "/dev/$controller" -f 0x0f | tee "$WORK/feature"
    matches "$(<"$WORK/feature")" 'value: *(0x)?0*[1-9a-f][0-9a-f]*' 'keep-alive timer'
    nvme get-feature "/dev/$controller" -f 0x06
    nvme get-feature "/dev/$controller" -f 0x0b | tee "$WORK/feature"
    # The kernel asks for notices of namespaces (bit 8) at least.
    local value
    value=$(sed -n 's/.*value: *\(0x\)\{0,1\}0*\([0-9a-f]*\).*/0x\2/p' "$WORK/feature")
    ((value & 0x100)) || fail 'asynchronous event configuration without namespace notices'
    refused 'INVALID_FIELD|Invalid Field' nvme admin-passthru "/dev/$controller" --opcode=0x0a --cdw10=0x7e
}

# Properties by Fabrics commands: CAP, VS, CC, CSTS. (show-regs of nvme-cli 2.3 shows noise with fabrics.)
properties() {
    things
    nvme get-property "/dev/$controller" -o 0x0
    matches "$(nvme get-property "/dev/$controller" -o 0x8)" 'value: (10300|10400|20000|20100)' 'VS'
    matches "$(nvme get-property "/dev/$controller" -o 0x14)" 'value: 46[0-9a-f]{4}$' 'CC with entries of 64 and 16 bytes'
    matches "$(nvme get-property "/dev/$controller" -o 0x1c)" 'value: 1$' 'CSTS'
    refused 'INVALID_FIELD|Invalid Field|Invalid argument' nvme get-property "/dev/$controller" -o 0x5000
}

refuses_nonsense() {
    things
    refused 'INVALID_OPCODE|Invalid Command Opcode' nvme admin-passthru "/dev/$controller" --opcode=0x7d
    refused 'INVALID_FIELD|Invalid Field' nvme admin-passthru "/dev/$controller" --opcode=0x06 --cdw10=0xf7 --data-len=4096 -r
    refused 'INVALID_LOG_PAGE|Invalid Log|INVALID_FIELD|Invalid Field' nvme get-log "/dev/$controller" -i 0x7f -l 512
    refused 'INVALID_OPCODE|Invalid Command Opcode' nvme io-passthru "/dev/$disk" --opcode=0x7d -n 1
    equal "$(state "$controller")" live 'the controller afterwards'
}

resets() {
    things
    nvme reset "/dev/$controller"
    poll 20 state_is "$controller" live
    dd if="/dev/$disk" of=/dev/null bs=64k count=1 iflag=direct status=none
}

stays_alive() {
    # Idle for longer than the keep-alive time-out of 2 s: the controller is still the same one.
    local other
    connect_as "$HOST_B" "$NQN" "$PORT1" nr_io_queues=1 keep_alive_tmo=2
    other=$(<"/sys/class/nvme/$controller/cntlid")
    sleep 5
    equal "$(state "$controller")" live 'the controller after 5 s without I/O'
    equal "$(<"/sys/class/nvme/$controller/cntlid")" "$other" 'its identifier'
    nvme id-ctrl "/dev/$controller" >/dev/null
    disconnect "$controller"
}

# pattern BYTES SEED: a file that differs from every other.
pattern() { head -c "$1" < <(yes "pattern $2") >"$WORK/pattern$2"; }

# nvme_write DISK LBA BLOCKS BYTES FILE and so on: nvme-cli counts blocks from zero.
nvme_write() { nvme write "/dev/$1" -s "$2" -c $(($3 - 1)) -z "$4" -d "$5"; }
nvme_read() { nvme read "/dev/$1" -s "$2" -c $(($3 - 1)) -z "$4" -d "$5"; }
nvme_compare() { nvme compare "/dev/$1" -s "$2" -c $(($3 - 1)) -z "$4" -d "$5"; }

zeroes_at() {
    nvme_read "$1" "$2" "$3" "$4" "$WORK/back"
    cmp -n "$4" "$WORK/back" /dev/zero
}

writes_and_reads() {
    things
    pattern 65536 1
    nvme_write "$disk" 1000 128 65536 "$WORK/pattern1"
    nvme_read "$disk" 1000 128 65536 "$WORK/back"
    cmp "$WORK/pattern1" "$WORK/back"
    nvme_write "$disk4k" 100 16 65536 "$WORK/pattern1"
    nvme_read "$disk4k" 100 16 65536 "$WORK/back"
    cmp "$WORK/pattern1" "$WORK/back"
    # One block: data in the capsule.
    nvme_write "$disk" 5000 1 512 "$WORK/pattern1"
    nvme_read "$disk" 5000 1 512 "$WORK/back"
    cmp -n 512 "$WORK/pattern1" "$WORK/back"
    target_can range-status || return 0
    refused 'LBA_RANGE|LBA Out of Range' nvme_read "$disk" $((64 * 2048 - 1)) 2 1024 "$WORK/back"
    refused 'LBA_RANGE|LBA Out of Range' nvme_write "$disk" $((64 * 2048)) 1 512 "$WORK/pattern1"
}

flushes() {
    things
    nvme flush "/dev/$disk" -n 1
    nvme flush "/dev/$disk4k" -n 2
}

writes_zeroes() {
    things
    local one
    for one in "$disk 128 2000" "$disk4k 16 200"; do
        # shellcheck disable=SC2086  # three words
        set -- $one
        pattern 65536 2
        nvme_write "$1" "$3" "$2" 65536 "$WORK/pattern2"
        nvme write-zeroes "/dev/$1" -s "$3" -c $(($2 - 1))
        zeroes_at "$1" "$3" "$2" 65536
        nvme_write "$1" "$3" "$2" 65536 "$WORK/pattern2"
        nvme write-zeroes "/dev/$1" -s "$3" -c $(($2 - 1)) -d
        zeroes_at "$1" "$3" "$2" 65536
    done
}

deallocates() {
    things
    pattern 65536 3
    nvme_write "$disk" 3000 128 65536 "$WORK/pattern3"
    # Two ranges, with a block between them that stays.
    nvme dsm "/dev/$disk" -n 1 -d -s 3000,3065 -b 64,63
    nvme_read "$disk" 3064 1 512 "$WORK/back"
    cmp -n 512 -i 32768:0 "$WORK/pattern3" "$WORK/back"
    nvme_read "$disk" 3000 64 32768 "$WORK/back"
    if cmp -n 32768 "$WORK/pattern3" "$WORK/back" >/dev/null; then echo 'remark: deallocated blocks keep their data'; fi
    # As the kernel does it.
    blkdiscard -o 4194304 -l 1048576 "/dev/$disk"
    blkdiscard -z -o 4194304 -l 1048576 "/dev/$disk4k"
}

compares() {
    things
    target_can compare || skip 'this target has no Compare'
    pattern 65536 4
    pattern 65536 5
    nvme_write "$disk" 4000 128 65536 "$WORK/pattern4"
    nvme_compare "$disk" 4000 128 65536 "$WORK/pattern4"
    refused 'COMPARE_FAILED|Compare Failure' nvme_compare "$disk" 4000 128 65536 "$WORK/pattern5"
    # In the capsule, and a single wrong byte at the end.
    nvme_compare "$disk" 4000 1 512 "$WORK/pattern4"
    cp "$WORK/pattern4" "$WORK/nearly"
    printf x | dd of="$WORK/nearly" bs=1 seek=65535 conv=notrunc status=none
    refused 'COMPARE_FAILED|Compare Failure' nvme_compare "$disk" 4000 128 65536 "$WORK/nearly"
    nvme_write "$disk4k" 400 16 65536 "$WORK/pattern4"
    nvme_compare "$disk4k" 400 16 65536 "$WORK/pattern4"
    refused 'COMPARE_FAILED|Compare Failure' nvme_compare "$disk4k" 400 16 65536 "$WORK/nearly"
}

verifies() {
    things
    target_can verify || skip 'this target has no Verify'
    nvme verify "/dev/$disk" -n 1 -s 0 -c 255
    nvme verify "/dev/$disk4k" -n 2 -s 0 -c 31
    refused 'LBA_RANGE|LBA Out of Range' nvme verify "/dev/$disk" -n 1 -s $((64 * 2048 - 1)) -c 1
}

copies() {
    things
    target_can copy || skip 'this target has no Copy'
    pattern 65536 6
    nvme_write "$disk" 8000 128 65536 "$WORK/pattern6"
    # Two source ranges, in the other order.
    nvme copy "/dev/$disk" -n 1 --sdlba=9000 --slbs=8064,8000 --blocks=63,63
    nvme_read "$disk" 9000 128 65536 "$WORK/back"
    cmp -n 32768 -i 32768:0 "$WORK/pattern6" "$WORK/back"
    cmp -n 32768 -i 0:32768 "$WORK/pattern6" "$WORK/back"
    refused 'LBA_RANGE|LBA Out of Range' nvme copy "/dev/$disk" -n 1 --sdlba=9000 --slbs=$((64 * 2048 - 1)) --blocks=1
}

suite_checks() {
    check 'list, list-subsys' lists
    check 'id-ctrl' identifies_controller
    check 'id-ns, list-ns: blocks of 512 and 4096' identifies_namespaces
    check 'ns-descs' describes_namespaces
    check 'the write cache is reported' reports_write_cache
    check 'smart-log counts' smart_log
    check 'error-log, fw-log, changed-ns-list-log' log_pages
    check 'effects-log' effects_log
    check 'ana-log' ana_log
    check 'get-feature' features
    check 'get-property' properties
    check 'unknown commands, pages and fields are refused' refuses_nonsense
    check 'write and read, the end of the device' writes_and_reads
    check 'flush' flushes
    check 'write-zeroes, with and without deallocating' writes_zeroes
    check 'dsm: deallocate two ranges' deallocates
    check 'compare: equal and unequal' compares
    check 'verify' verifies
    check 'copy: two ranges' copies
    check 'keep-alive keeps an idle controller' stays_alive
    check 'reset' resets
}
