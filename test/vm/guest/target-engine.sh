# shellcheck shell=bash
# The engine as the target, in the guest. The interface is described in target-nvmet.sh.
#
# What configures the target is kept as a list of calls, so that one that was killed comes back as it was.

: "${IO_ENGINE:?the engine to test}"
RPC_SOCKET=$WORK/rpc.sock
DEVICES=/dev/shm/engine
CALLS=$WORK/calls
# Seconds that the debug binary may take under emulation until it answers.
START_SECONDS=30

rpc() { "$IO_ENGINE" rpc -r "$RPC_SOCKET" "$@"; }

# configure METHOD PARAMETERS: a call that a restarted target needs as well.
configure() {
    rpc "$1" "$2"
    printf '%s\t%s\n' "$1" "$2" >>"$CALLS"
}

# forget NQN TEXT: takes the calls that contain both out of the list.
forget() {
    awk -v nqn="\"$1\"" -v text="$2" '!(index($0, nqn) && index($0, text))' "$CALLS" >"$CALLS.new"
    mv "$CALLS.new" "$CALLS"
}

answers() { rpc spdk_get_version >/dev/null 2>&1; }

answers_or_ended() { answers || ! alive; }

alive() { [[ -e $WORK/engine.pid ]] && kill -0 "$(<"$WORK/engine.pid")" 2>/dev/null; }

# The daemon is in a process group of its own: it outlives the check that started it.
engine_start() {
    setsid "$IO_ENGINE" -m "${ENGINE_MASK:-0x3}" -s "${ENGINE_MIB:-256}" --no-huge -r "$RPC_SOCKET" -L "${ENGINE_LOG:-info}" \
        >>"$WORK/engine.log" 2>&1 </dev/null &
    echo $! >"$WORK/engine.pid"
    poll "$START_SECONDS" answers_or_ended
    alive || fail 'the engine has ended'
}

ended() { ! alive; }

# engine_signal NAME
engine_signal() { kill -s "$1" "$(<"$WORK/engine.pid")"; }

engine_kill() {
    engine_signal KILL
    poll 10 ended
}

# A file system on which files can be read and written in blocks of 512 past the page cache, which tmpfs allows for 4096.
storage_up() {
    mkdir -p "$DEVICES"
    modprobe -a loop ext4
    truncate -s 768M "$DEVICES.img"
    mkfs.ext4 -q -F -O ^has_journal -E lazy_itable_init=1 "$DEVICES.img"
    mount -o loop,noatime "$DEVICES.img" "$DEVICES"
}

storage_down() {
    if mountpoint -q "$DEVICES"; then umount "$DEVICES"; fi
    rm -rf "$DEVICES" "$DEVICES.img"
}

target_up() {
    storage_up
    : >"$CALLS"
    : >"$WORK/engine.log"
    engine_start
    configure nvmf_create_transport '{"trtype": "TCP"}'
}

target_can() { return 0; }

# In order: the engine has to get there by itself.
engine_end() {
    engine_signal TERM
    if ! poll 20 ended; then
        engine_kill
        fail 'the engine did not end when asked to'
    fi
}

target_down() {
    if alive; then engine_end; fi
    storage_down
}

target_log() {
    echo 'engine:'
    cat "$WORK/engine.log"
}

target_crash() { engine_kill; }

target_again() {
    local method parameters
    engine_start
    while IFS=$'\t' read -r method parameters; do rpc "$method" "$parameters"; done <"$CALLS"
}

device() {
    local name=$1 kind=$2 mib=$3 block=$4
    case $kind in
        memory) configure bdev_malloc_create "{\"name\": \"$name\", \"num_blocks\": $((mib * 1048576 / block)), \"block_size\": $block}" ;;
        file)
            truncate -s "${mib}M" "$DEVICES/$name"
            configure bdev_uring_create "{\"name\": \"$name\", \"filename\": \"$DEVICES/$name\", \"block_size\": $block}"
            ;;
        disk) configure bdev_uring_create "{\"name\": \"$name\", \"filename\": \"$mib\", \"block_size\": $block}" ;;
    esac
}

device_path() { echo "$DEVICES/$1"; }

device_resize() {
    truncate -s "${2}M" "$DEVICES/$1"
    rpc bdev_uring_rescan "{\"name\": \"$1\"}"
}

listen_address() { echo "{\"trtype\": \"TCP\", \"adrfam\": \"IPv4\", \"traddr\": \"127.0.0.1\", \"trsvcid\": \"$1\"}"; }

subsystem() {
    local any=true
    if [[ ${2:-any} == listed ]]; then any=false; fi
    configure nvmf_create_subsystem "{\"nqn\": \"$1\", \"allow_any_host\": $any, \"serial_number\": \"serial-${1##*:}\", \"ana_reporting\": true}"
}

subsystem_remove() {
    rpc nvmf_delete_subsystem "{\"nqn\": \"$1\"}"
    forget "$1" ""
}

namespace() {
    local more=${5:+, \"ptpl_file\": \"$5\"}
    configure nvmf_subsystem_add_ns "{\"nqn\": \"$1\", \"namespace\": {\"nsid\": $2, \"bdev_name\": \"$3\", \"anagrpid\": ${4:-1}$more}}"
}

namespace_remove() {
    rpc nvmf_subsystem_remove_ns "{\"nqn\": \"$1\", \"nsid\": $2}"
    forget "$1" "\"nsid\": $2,"
}

listen() { configure nvmf_subsystem_add_listener "{\"nqn\": \"$1\", \"listen_address\": $(listen_address "$2")}"; }

unlisten() {
    rpc nvmf_subsystem_remove_listener "{\"nqn\": \"$1\", \"listen_address\": $(listen_address "$2")}"
    forget "$1" "\"trsvcid\": \"$2\""
}

allow() { configure nvmf_subsystem_add_host "{\"nqn\": \"$1\", \"host\": \"$2\"}"; }

forbid() {
    rpc nvmf_subsystem_remove_host "{\"nqn\": \"$1\", \"host\": \"$2\"}"
    forget "$1" "\"host\": \"$2\""
}

ana() {
    local state=${4//-/_}
    # The names of SPDK: optimized, non_optimized, inaccessible; ours beyond them: persistent_loss, change.
    configure nvmf_subsystem_listener_set_ana_state \
        "{\"nqn\": \"$1\", \"listen_address\": $(listen_address "$2"), \"ana_state\": \"$state\", \"anagrpid\": $3}"
}
