# shellcheck shell=bash
# The kernel's own target, with the interface that target-engine.sh has. It stands in for the engine to prove the checks
# right, and it is the other side of the engine's initiator.
#
#   target_up / target_down                begin and end, with nothing exported
#   target_can FEATURE                     whether this target has it at all
#   target_crash / target_again            the target dies with all its connections / comes back as it was configured
#   device NAME KIND MIB BLOCK_BYTES       KIND: memory (no write cache), file (with one; survives a crash),
#                                          disk (a block device, whose path takes the place of MIB)
#   device_resize NAME MIB                 bigger, and the target knows
#   device_path NAME                       the file below a device of KIND file
#   subsystem NQN [any|listed]             which hosts may connect (any)
#   subsystem_remove NQN
#   namespace NQN NSID DEVICE [GROUP [FILE]]   with the ANA group (1), and a file in which reservations outlive the target
#   namespace_remove NQN NSID
#   listen NQN PORT / unlisten NQN PORT
#   allow NQN HOSTNQN / forbid NQN HOSTNQN
#   ana NQN PORT GROUP STATE               STATE: optimized, non-optimized, inaccessible, persistent-loss, change

NVMET=/sys/kernel/config/nvmet
DEVICES=/dev/shm/devices

target_up() {
    modprobe -a nvmet nvmet-tcp loop
    mkdir -p "$DEVICES" "$WORK/devices"
}

target_can() {
    case $1 in
        # Linux 6.12: nvmet does not know Verify, Copy and Compare; reservations came later.
        compare | verify | copy | reservations) return 1 ;;
        # Its firmware log is empty. Every namespace has a write cache. What is beyond the end of the device is an internal
        # error. It is no process that could be frozen. A host that is taken from the list stays connected.
        firmware-text | write-cache | range-status | process | forbid-disconnects) return 1 ;;
        *) return 0 ;;
    esac
}

target_down() {
    local item
    for item in "$NVMET"/ports/*/subsystems/* "$NVMET"/subsystems/*/allowed_hosts/*; do
        if [[ -L $item ]]; then rm "$item"; fi
    done
    for item in "$NVMET"/ports/*/ana_groups/* "$NVMET"/ports/* "$NVMET"/subsystems/*/namespaces/* "$NVMET"/subsystems/* "$NVMET"/hosts/*; do
        # The first group of a port comes and goes with the port.
        if [[ -d $item && $item != */ana_groups/1 ]]; then rmdir "$item"; fi
    done
    for item in "$WORK"/devices/*; do
        if [[ -e $item && $(<"$item") == /dev/loop* ]]; then losetup -d "$(<"$item")"; fi
    done
    rm -rf "$WORK/devices" "$DEVICES"
    # It holds nvme_core, which the next suite may want with other parameters.
    modprobe -r nvmet-tcp nvmet
}

target_log() { :; }

device() {
    local name=$1 kind=$2 mib=$3 block=$4
    if [[ $kind == disk ]]; then
        echo "$mib" >"$WORK/devices/$name"
        return 0
    fi
    truncate -s "${mib}M" "$DEVICES/$name"
    losetup -f --show -b "$block" "$DEVICES/$name" >"$WORK/devices/$name"
}

device_path() { echo "$DEVICES/$1"; }

device_resize() {
    local item
    truncate -s "${2}M" "$DEVICES/$1"
    losetup -c "$(<"$WORK/devices/$1")"
    for item in "$NVMET"/subsystems/*/namespaces/*; do
        if [[ $(<"$item/device_path") == "$(<"$WORK/devices/$1")" ]]; then echo 1 >"$item/revalidate_size"; fi
    done
}

subsystem() {
    mkdir "$NVMET/subsystems/$1"
    if [[ ${2:-any} == any ]]; then echo 1 >"$NVMET/subsystems/$1/attr_allow_any_host"; fi
    echo "serial-${1##*:}" >"$NVMET/subsystems/$1/attr_serial"
}

subsystem_remove() {
    local item
    for item in "$NVMET"/ports/*/subsystems/"$1"; do
        if [[ -L $item ]]; then rm "$item"; fi
    done
    for item in "$NVMET/subsystems/$1"/namespaces/*; do
        if [[ -d $item ]]; then rmdir "$item"; fi
    done
    rmdir "$NVMET/subsystems/$1"
}

namespace() {
    local path=$NVMET/subsystems/$1/namespaces/$2
    mkdir "$path"
    echo -n "$(<"$WORK/devices/$3")" >"$path/device_path"
    echo "${4:-1}" >"$path/ana_grpid"
    echo 1 >"$path/enable"
}

namespace_remove() {
    echo 0 >"$NVMET/subsystems/$1/namespaces/$2/enable"
    rmdir "$NVMET/subsystems/$1/namespaces/$2"
}

# A port is named by its number; it listens while a subsystem is linked to it.
listen() {
    local path=$NVMET/ports/$2
    if [[ ! -d $path ]]; then
        mkdir "$path"
        echo tcp >"$path/addr_trtype"
        echo ipv4 >"$path/addr_adrfam"
        echo 127.0.0.1 >"$path/addr_traddr"
        echo "$2" >"$path/addr_trsvcid"
    fi
    ln -s "$NVMET/subsystems/$1" "$path/subsystems/$1"
}

unlisten() { rm "$NVMET/ports/$2/subsystems/$1"; }

allow() {
    mkdir -p "$NVMET/hosts/$2"
    ln -s "$NVMET/hosts/$2" "$NVMET/subsystems/$1/allowed_hosts/$2"
}

forbid() { rm "$NVMET/subsystems/$1/allowed_hosts/$2"; }

ana() {
    local path=$NVMET/ports/$2/ana_groups/$3
    mkdir -p "$path"
    echo "$4" >"$path/ana_state"
}

# The listeners go, and with them the controllers and connections.
target_crash() {
    local item
    : >"$WORK/listeners"
    for item in "$NVMET"/ports/*/subsystems/*; do
        if [[ -L $item ]]; then
            echo "$item" >>"$WORK/listeners"
            rm "$item"
        fi
    done
}

target_again() {
    local item
    while read -r item; do ln -s "$NVMET/subsystems/${item##*/}" "$item"; done <"$WORK/listeners"
}
