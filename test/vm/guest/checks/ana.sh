# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# Two listeners, two paths: the host follows the ANA states, and load goes on where it may.

NQN=nqn.2026-01.io.example:ana

suite_setup() {
    device file0 file 16 512
    device file1 file 16 4096
    subsystem "$NQN"
    namespace "$NQN" 1 file0 1
    namespace "$NQN" 2 file1 2
    listen "$NQN" "$PORT1"
    listen "$NQN" "$PORT2"
    ana "$NQN" "$PORT1" 2 optimized
    ana "$NQN" "$PORT2" 2 optimized
    connect "$NQN" "$PORT1" -i 2 -c 1 -l 60
    echo "$controller" >"$WORK/first"
    connect "$NQN" "$PORT2" -i 2 -c 1 -l 60
    echo "$controller" >"$WORK/second"
    disk_of "$controller" 1
    echo "$disk" >"$WORK/disk1"
}

paths() {
    first=$(<"$WORK/first")
    second=$(<"$WORK/second")
    disk=$(<"$WORK/disk1")
}

# Writes that completed on the path of a controller to namespace 1.
path_writes() {
    local path fields
    for path in "/sys/class/nvme/$1"/nvme*; do
        if [[ -e $path/nsid && $(<"$path/nsid") == 1 ]]; then
            read -ra fields <"$path/stat"
            echo "${fields[4]}"
        fi
    done
}

# switch CONTROLLER PORT STATE: the target says it, the host knows it.
switch() {
    ana "$NQN" "$2" 1 "$3"
    poll 20 ana_state_is "$1" 1 "$3"
}

# carries CONTROLLER OTHER: load goes over the first and not over the other one.
carries() {
    local on off
    # What was under way when the state changed ends before that.
    poll 20 progress "$disk" 60
    on=$(path_writes "$1")
    off=$(path_writes "$2")
    poll 20 progress "$disk" 60
    echo "$1: $on, then $(path_writes "$1"); $2: $off, then $(path_writes "$2")"
    (($(path_writes "$1") > on)) || fail "nothing goes over $1"
    equal "$(path_writes "$2")" "$off" "what went over $2"
}

shares_namespaces() {
    paths
    equal "$(ana_state "$first" 1)" optimized 'the first path'
    equal "$(ana_state "$second" 1)" optimized 'the second path'
    # Both paths lead to one block device.
    disk_of "$first" 1
    equal "$disk" "$(<"$WORK/disk1")" 'the block device of the other path'
    nvme list-subsys "/dev/$disk" | tee "$WORK/list"
    equal "$(grep -c 'tcp .* live' "$WORK/list")" 2 'the number of paths'
}

switches_under_load() {
    paths
    keep_loading "$disk" 4m
    switch "$first" "$PORT1" inaccessible
    carries "$second" "$first"
    switch "$first" "$PORT1" optimized
    switch "$second" "$PORT2" inaccessible
    carries "$first" "$second"
    switch "$second" "$PORT2" optimized
    stop_loading
}

prefers_optimized() {
    paths
    keep_loading "$disk" 4m
    switch "$first" "$PORT1" non-optimized
    carries "$second" "$first"
    switch "$first" "$PORT1" optimized
    switch "$second" "$PORT2" non-optimized
    carries "$first" "$second"
    # Better than nothing.
    switch "$first" "$PORT1" inaccessible
    carries "$second" "$first"
    switch "$first" "$PORT1" optimized
    switch "$second" "$PORT2" optimized
    stop_loading
}

# Without a path that may be used the load waits; it must not fail.
waits_for_a_path() {
    local before
    paths
    keep_loading "$disk" 4m
    switch "$first" "$PORT1" inaccessible
    switch "$second" "$PORT2" inaccessible
    # What a path had begun is over when a flush of the whole queue would be; three equal looks will do.
    poll 20 stands_still "$disk"
    before=$(writes_of "$disk")
    switch "$second" "$PORT2" optimized
    poll 20 more_than "$disk" "$before"
    switch "$first" "$PORT1" optimized
    stop_loading
}

writes_of() {
    local fields
    read -ra fields <"/sys/block/$1/stat"
    echo "${fields[4]}"
}

more_than() { (($(writes_of "$1") > $2)); }

stands_still() {
    local before
    before=$(writes_of "$1")
    sleep 1
    (($(writes_of "$1") == before))
}

# A state is that of a group: the other namespace keeps its own.
groups_are_apart() {
    paths
    ana "$NQN" "$PORT1" 2 inaccessible
    poll 20 ana_state_is "$first" 2 inaccessible
    equal "$(ana_state "$first" 1)" optimized 'group 1 at the same port'
    equal "$(ana_state "$second" 2)" optimized 'group 2 at the other port'
    nvme ana-log "/dev/$first" | tee "$WORK/log-page"
    ana "$NQN" "$PORT1" 2 optimized
    poll 20 ana_state_is "$first" 2 optimized
}

survives_a_lost_path() {
    paths
    keep_loading "$disk" 4m
    unlisten "$NQN" "$PORT1"
    poll 20 state_is "$first" connecting
    poll 20 progress "$disk" 300
    listen "$NQN" "$PORT1"
    poll 30 state_is "$first" live
    stop_loading
}

suite_checks() {
    check 'two listeners are two paths to one device' shares_namespaces
    check 'inaccessible under load: it goes on over the other path' switches_under_load
    check 'non-optimized is used when nothing better is there' prefers_optimized
    check 'no path for a while: load waits and goes on' waits_for_a_path
    check 'ANA groups have states of their own' groups_are_apart
    check 'a listener is removed under load: it goes on over the other path' survives_a_lost_path
}
