# shellcheck shell=bash disable=SC2034,SC2154  # what main, host.sh and target-engine.sh set and read
# The engine on the machine that runs the guest, as the target: what target-engine.sh does in the guest is asked for through
# the shared directory (see test/vm/outside).

: "${SHARE:?the directory shared with the machine outside}"
# shellcheck source=test/vm/guest/target-engine.sh
source "$here/target-engine.sh"
DEVICES=$SHARE/devices

# outside REQUEST…: prints the answer and has its status.
outside() {
    local status
    printf '%s\0' "$@" >"$SHARE/request.new"
    mv "$SHARE/request.new" "$SHARE/request"
    until [[ -e $SHARE/answer ]]; do sleep 0.05; done
    {
        read -r status
        cat
    } <"$SHARE/answer"
    rm "$SHARE/answer"
    return "$status"
}

# It has real file systems.
storage_up() { mkdir -p "$DEVICES"; }

storage_down() { rm -rf "$DEVICES"; }

rpc() { outside rpc "$@"; }

alive() { outside alive; }

engine_start() {
    outside start -m "${ENGINE_MASK:-0x1}" -s "${ENGINE_MIB:-256}" --no-huge -L "${ENGINE_LOG:-info}"
    poll "$START_SECONDS" answers_or_ended
    alive || fail 'the engine has ended'
}

engine_signal() { outside signal "$1"; }

target_log() {
    echo 'engine:'
    cat "$SHARE/engine.log" 2>/dev/null
}

# As QEMU's network for users maps it. The ports are ones that are free outside.
ADDRESS=10.0.2.2
read -r PORT1 PORT2 < <(outside ports 2)
