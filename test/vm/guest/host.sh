# shellcheck shell=bash
# The Linux NVMe/TCP host of the guest: connections, the block devices that come of them, load on these.

export HOST_A=nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-00000000000a
export HOST_B=nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-00000000000b
# Where the target is, as the host sees it, and the ports that suites listen at.
ADDRESS=127.0.0.1
export PORT1=4420 PORT2=4421 PORT3=4422
# Where it says that it is.
export TARGET_TRADDR=127.0.0.1

# host_load PARAMETER=VALUE…: loads the host's modules, anew when nvme_core has other parameters than these.
host_load() {
    local parameter file
    for parameter in "$@"; do
        file=/sys/module/nvme_core/parameters/${parameter%%=*}
        if [[ -e $file && $(<"$file") != "${parameter#*=}" ]]; then
            modprobe -r nvme-tcp nvme-fabrics nvme nvme-core
            break
        fi
    done
    modprobe nvme-core "$@"
    modprobe nvme-tcp
}

controllers() {
    local path
    for path in /sys/class/nvme/nvme*; do
        if [[ -e $path ]]; then echo "${path##*/}"; fi
    done
}

# controller_of NQN PORT [HOSTNQN]: the controller connected to it.
controller_of() {
    local name path
    for name in $(controllers); do
        path=/sys/class/nvme/$name
        if [[ $(cat "$path/subsysnqn" 2>/dev/null) == "$1" && $(cat "$path/address" 2>/dev/null) =~ trsvcid=$2(,|$) &&
            $(cat "$path/hostnqn" 2>/dev/null) == "${3:-$HOST_A}" ]]; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

# connect NQN PORT [nvme-cli's options…]: connects as host A, and sets `controller`.
connect() {
    local nqn=$1 port=$2
    shift 2
    nvme connect -t tcp -a "$ADDRESS" -s "$port" -n "$nqn" -q "$HOST_A" -I "${HOST_A##*:}" "$@"
    controller=$(controller_of "$nqn" "$port") || fail "no controller for $nqn at port $port"
    equal "$(state "$controller")" live "the state of $controller"
}

# connect_as HOSTNQN NQN PORT [OPTION=VALUE…]: the same without nvme-cli, whose 2.3 takes a second host of the same machine for
# the first one; options are the kernel's. Sets `controller`.
connect_as() {
    local host=$1 nqn=$2 port=$3 option answer
    local words="transport=tcp,traddr=$ADDRESS,trsvcid=$port,nqn=$nqn,hostnqn=$host,hostid=${host##*:}"
    shift 3
    for option in "$@"; do words+=,$option; done
    exec 5<>/dev/nvme-fabrics
    if ! printf '%s' "$words" >&5; then
        exec 5>&-
        return 1
    fi
    read -r answer <&5
    exec 5>&-
    controller=nvme$(sed -n 's/.*instance=\([0-9]*\).*/\1/p' <<<"$answer")
    equal "$(state "$controller")" live "the state of $controller"
}

state() { cat "/sys/class/nvme/$1/state" 2>/dev/null || echo gone; }

state_is() { [[ $(state "$1") == "$2" ]]; }

gone() { [[ ! -e /sys/class/nvme/$1 ]]; }

disconnect() {
    nvme disconnect -d "$1"
    poll 20 gone "$1"
}

disconnect_all() {
    nvme disconnect-all || true
    poll 30 no_controllers
}

no_controllers() {
    local path
    for path in /sys/class/nvme/nvme*; do
        # The controllers of PCIe are no business of ours.
        if [[ -e $path && $(<"$path/transport") != pcie ]]; then return 1; fi
    done
}

# find_disk CONTROLLER NSID: prints the block device of a namespace. With multipath the path of the controller is hidden, and
# nvmeScCnN stands for nvmeSnN.
find_disk() {
    local path name
    for path in "/sys/class/nvme/$1"/nvme*; do
        [[ -e $path/nsid && $(<"$path/nsid") == "$2" ]] || continue
        name=${path##*/}
        if [[ $name =~ ^(nvme[0-9]+)c[0-9]+(n[0-9]+)$ ]]; then name=${BASH_REMATCH[1]}${BASH_REMATCH[2]}; fi
        [[ -b /dev/$name ]] || return 1
        echo "$name"
        return 0
    done
    return 1
}

# disk_of CONTROLLER NSID: waits for it, and sets `disk`.
disk_of() {
    poll 20 find_disk "$1" "$2" >/dev/null || fail "no block device for namespace $2 of $1"
    disk=$(find_disk "$1" "$2")
}

# Bytes of a block device.
disk_bytes() { echo $(($(<"/sys/block/$1/size") * 512)); }

disk_bytes_are() { (($(disk_bytes "$1") == $2)); }

# ana_state CONTROLLER NSID
ana_state() {
    local path
    for path in "/sys/class/nvme/$1"/nvme*; do
        if [[ -e $path/nsid && $(<"$path/nsid") == "$2" ]]; then
            cat "$path/ana_state"
            return 0
        fi
    done
    return 1
}

ana_state_is() { [[ $(ana_state "$1" "$2") == "$3" ]]; }

# field NAME: the value after "NAME :" in what nvme-cli prints for people.
field() {
    awk -F: -v name="$1" '{ key = $1; gsub(/^[ \t]+|[ \t]+$/, "", key) }
        key == name { sub(/^[^:]*:[ \t]*/, ""); gsub(/[ \t]+$/, ""); print; exit }'
}

# load DISK PATTERN SIZE [fio's options…]: writes with a checksum in every block and reads everything back.
load() {
    local disk=$1 pattern=$2 size=$3
    shift 3
    fio --name="$pattern" --filename="/dev/$disk" --rw="$pattern" --size="$size" --direct=1 --ioengine=libaio --iodepth=16 \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_dump=0 --group_reporting --output-format=terse "$@" >"$WORK/fio.$BASHPID" ||
        { cat "$WORK/fio.$BASHPID"; return 1; }
}

# written DISK IOS: so many writes have completed. With multipath the head counts.
written() {
    local fields
    read -ra fields <"/sys/block/$1/stat"
    ((fields[4] >= $2))
}

# keep_loading DISK SIZE: verified load, again and again in the background of the check, until stop_loading, which fails
# when any round did. `progress DISK WRITES`: so many more since it was called for the last time.
keep_loading() {
    rm -f "$WORK/stop" "$WORK/progress"
    (
        set -e
        while [[ ! -e $WORK/stop ]]; do load "$1" randrw "$2" --bs=4k; done
    ) &
    loading=$!
}

stop_loading() {
    touch "$WORK/stop"
    wait "$loading" || fail 'the load found wrong data, or an error'
}

progress() {
    local fields
    read -ra fields <"/sys/block/$1/stat"
    if [[ ! -e $WORK/progress ]]; then echo "${fields[4]}" >"$WORK/progress"; fi
    if ((fields[4] >= $(<"$WORK/progress") + $2)); then
        rm "$WORK/progress"
        return 0
    fi
    # A load that has ended makes no progress any more.
    if [[ -n ${loading:-} ]] && ! kill -0 "$loading" 2>/dev/null; then
        wait "$loading" || fail 'the load found wrong data, or an error'
    fi
    return 1
}
