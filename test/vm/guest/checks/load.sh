# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# Checksummed load over every kind of digest, number of queues, device and size of a block; the limits are the host's.

NQN=nqn.2026-01.io.example:load

suite_setup() {
    device memory512 memory 48 512
    device memory4096 memory 48 4096
    device file512 file 48 512
    device file4096 file 48 4096
    subsystem "$NQN"
    namespace "$NQN" 1 memory512
    namespace "$NQN" 2 memory4096
    namespace "$NQN" 3 file512
    namespace "$NQN" 4 file4096
    listen "$NQN" "$PORT1"
}

# shape DIGESTS QUEUES: connects, puts load on all four devices at once, disconnects. DIGESTS: words of hdr and data.
shape() {
    local digests=$1 queues=$2 options=() nsid block name jobs=()
    [[ $digests != *hdr* ]] || options+=(--hdr-digest)
    [[ $digests != *data* ]] || options+=(--data-digest)
    connect "$NQN" "$PORT1" -i "$queues" "${options[@]}"
    equal "$(<"/sys/class/nvme/$controller/queue_count")" $((queues + 1)) 'queues with the one for admin commands'
    for nsid in 1 2 3 4; do
        disk_of "$controller" "$nsid"
        block=$(<"/sys/block/$disk/queue/logical_block_size")
        # A quarter each: writes with data in the capsule, with one R2T, and larger ones.
        name=--name=$disk.
        jobs+=("${name}random" --filename="/dev/$disk" --rw=randrw --offset=0 --size=6m
            --bssplit="$block/25:4k/25:16k/25:128k/25" --bsrange="$block-128k")
        jobs+=("${name}sequential" --filename="/dev/$disk" --rw=rw --offset=24m --size=8m --bs=64k)
    done
    fio --direct=1 --ioengine=libaio --iodepth=8 --thread --verify=crc32c --verify_fatal=1 --verify_dump=0 \
        --output-format=terse --group_reporting "${jobs[@]}" >"$WORK/fio" || {
        cat "$WORK/fio"
        fail 'the load found wrong data, or an error'
    }
    disconnect "$controller"
}

# Somebody else overwrites the file below the device all the time: the load has to notice, or its praise is worth nothing.
notices_corruption() {
    local spoiler
    connect "$NQN" "$PORT1"
    disk_of "$controller" 3
    while :; do dd if=/dev/zero of="$(device_path file512)" bs=1M count=4 conv=notrunc status=none; done &
    spoiler=$!
    refused 'verify|crc' load "$disk" randrw 4m --bs=4k --loops=3
    kill "$spoiler"
    disconnect "$controller"
}

suite_checks() {
    local digests
    CHECK_LIMIT=120
    check 'the load notices wrong data' notices_corruption
    for digests in none hdr data 'hdr data'; do
        check "verified load: digests: $digests; 2 queues" shape "$digests" 2
    done
    check 'verified load: digests: none; 1 queue' shape none 1
    check 'verified load: digests: hdr data; 4 queues' shape 'hdr data' 4
    CHECK_LIMIT=60
}
