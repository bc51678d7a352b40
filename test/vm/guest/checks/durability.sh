# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# From fsync on the host to the flush of the drive: FLUSH and FUA go all the way down, and nothing flushes unasked.
#
# The device below the target is a drive with a volatile write cache (QEMU's NVMe model), so that the kernel's block layer
# tells what reaches it. Without multipath it also tells what the host sends.

NQN=nqn.2026-01.io.example:durability
MULTIPATH=N
DRIVE=nvme0n1

suite_setup() {
    modprobe -a nvme ext4
    poll 20 test -b "/dev/$DRIVE"
    equal "$(<"/sys/block/$DRIVE/queue/write_cache")" 'write back' 'the write cache of the drive'
    device drive disk "/dev/$DRIVE" 512
    subsystem "$NQN"
    namespace "$NQN" 1 drive
    listen "$NQN" "$PORT1"
    connect "$NQN" "$PORT1" -i 2
    echo "$controller" >"$WORK/controller"
    disk_of "$controller" 1
    echo "$disk" >"$WORK/disk1"
    mkdir -p "$WORK/mount"
}

suite_end() { modprobe -r nvme; }

# traced COMMAND…: sets the counts that `durability` prints, and fails when it does.
traced() {
    local words
    disk=$(<"$WORK/disk1")
    trace_on block/block_rq_issue block/block_rq_complete io_uring/io_uring_submit_req
    "$@"
    trace_off
    cp "$TRACING/trace" "$WORK/trace"
    if ! "$here/durability" "$WORK/trace" "$(numbers "$disk")" "$(numbers "$DRIVE")" >"$WORK/counts"; then
        cat "$WORK/counts"
        fail 'not everything reached the drive'
    fi
    cat "$WORK/counts"
    read -ra words <"$WORK/counts"
    declare -g "${words[@]}"
}

# The device numbers as the trace has them.
numbers() { tr : , <"/sys/block/$1/dev"; }

shows_the_write_cache() {
    disk=$(<"$WORK/disk1")
    equal "$(<"/sys/block/$disk/queue/write_cache")" 'write back' 'the write cache that the host sees'
    equal "$(<"/sys/block/$disk/queue/fua")" 1 'FUA as the host sees it'
}

# Writes of programs that do not ask for more: nothing is flushed.
asks_for_nothing() {
    traced dd if=/dev/zero of="/dev/$(<"$WORK/disk1")" bs=64k count=32 oflag=direct status=none
    ((upper_writes >= 32)) || fail 'the trace has no writes'
    equal "$upper_flushes $upper_fua $lower_flushes $lower_fua" '0 0 0 0' 'flushes and FUA writes, above and below'
}

flushes_the_device() {
    local before after
    before=$(engine_flushes)
    # fsync of a block device is a flush.
    traced dd if=/dev/zero of="/dev/$(<"$WORK/disk1")" bs=64k count=4 oflag=direct conv=fsync status=none
    ((upper_flushes >= 1)) || fail 'fsync sends no flush'
    after=$(engine_flushes)
    [[ -z $after ]] || equal $((after - before)) "$upper_flushes" 'flushes that the engine counts'
    uring_fsyncs "$upper_flushes"
}

forces_unit_access() {
    # O_DSYNC on a block device with FUA makes each write durable by itself.
    traced dd if=/dev/zero of="/dev/$(<"$WORK/disk1")" bs=4k count=20 oflag=direct,dsync status=none
    ((upper_fua + upper_flushes >= 20)) || fail 'O_DSYNC sends neither FUA nor flushes'
    ((upper_fua > 0)) || fail 'O_DSYNC sends no FUA'
    ((lower_fua + lower_flushes >= 20)) || fail 'fewer than the 20 writes were made durable'
}

# Each line is appended and made durable before the next one.
append_and_fsync() {
    python3 - "$WORK/mount/journal" <<'PYTHON'
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
for number in range(20):
    os.write(file, b"line %d\n" % number)
    os.fsync(file)
for number in range(20):
    os.write(file, b"line %d\n" % number)
    os.fdatasync(file)
PYTHON
}

syncs_ext4() {
    disk=$(<"$WORK/disk1")
    mkfs.ext4 -q -F "/dev/$disk"
    mount "/dev/$disk" "$WORK/mount"
    sync
    traced append_and_fsync
    umount "$WORK/mount"
    # A journal commit is a flush, the commit block goes with FUA.
    ((upper_flushes >= 20)) || fail "40 fsync made $upper_flushes flushes"
    ((upper_fua >= 20)) || fail "40 fsync made $upper_fua FUA writes"
    uring_fsyncs 20
}

# Flushes that the engine has counted, or nothing with another target.
engine_flushes() {
    [[ $TARGET == engine ]] || return 0
    rpc bdev_get_iostat '{"name": "drive"}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["bdevs"][0]["num_flush_ops"])'
}

# uring_fsyncs COUNT: the engine's flushes are what it should send: fsync requests in its ring.
uring_fsyncs() {
    local count
    [[ $TARGET == engine ]] || return 0
    count=$(grep -cE 'io_uring_submit_req: .*opcode FSYNC' "$WORK/trace" || true)
    ((count >= $1)) || fail "$count fsync requests of io_uring instead of at least $1"
}

suite_checks() {
    check 'the write cache of the drive is seen through the target' shows_the_write_cache
    check 'without fsync nothing is flushed' asks_for_nothing
    check 'fsync of the block device reaches the drive' flushes_the_device
    check 'O_DSYNC writes are durable on the drive when they complete' forces_unit_access
    check 'fsync and fdatasync on ext4 reach the drive' syncs_ext4
}
