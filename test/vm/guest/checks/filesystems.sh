# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# File systems, each on a device in memory and one on a file: made, filled, read after a remount, checked.

NQN=nqn.2026-01.io.example:filesystems

suite_setup() {
    device memory0 memory 128 512
    # xfs refuses less than 300 MiB.
    device file0 file 320 4096
    subsystem "$NQN"
    namespace "$NQN" 1 memory0
    namespace "$NQN" 2 file0
    listen "$NQN" "$PORT1"
    connect "$NQN" "$PORT1" -i 2
    echo "$controller" >"$WORK/controller"
    modprobe -a ext4 xfs
    mkdir -p "$WORK/mount"
}

fill() {
    local mount=$WORK/mount number
    mkdir "$mount/files"
    for number in 1 2 3 4 5 6 7 8 9; do
        head -c $((number * 300000)) < <(yes "file $number") >"$mount/files/$number"
    done
    cp /usr/share/common-licenses/* "$mount/files/"
    rm "$mount/files/3"
    fallocate -p -o 65536 -l 131072 "$mount/files/9"
    (cd "$mount/files" && sha256sum ./*) >"$WORK/sums"
    sync -f "$mount"
}

# Mounts again, so that everything comes from the device.
still_there() {
    umount "$WORK/mount"
    echo 3 >/proc/sys/vm/drop_caches
    mount "/dev/$1" "$WORK/mount"
    (cd "$WORK/mount/files" && sha256sum --quiet -c "$WORK/sums")
    fstrim -v "$WORK/mount"
    umount "$WORK/mount"
}

ext4_on() {
    disk_of "$(<"$WORK/controller")" "$1"
    mkfs.ext4 -q -F "/dev/$disk"
    mount "/dev/$disk" "$WORK/mount"
    fill
    still_there "$disk"
    fsck.ext4 -f -n "/dev/$disk"
}

xfs_on() {
    disk_of "$(<"$WORK/controller")" "$1"
    mkfs.xfs -q -f "/dev/$disk"
    mount "/dev/$disk" "$WORK/mount"
    fill
    still_there "$disk"
    xfs_repair -n "/dev/$disk"
}

suite_checks() {
    CHECK_LIMIT=120
    check 'ext4 on memory, blocks of 512' ext4_on 1
    check 'ext4 on a file, blocks of 4096' ext4_on 2
    check 'xfs on a file, blocks of 4096' xfs_on 2
    CHECK_LIMIT=60
}
