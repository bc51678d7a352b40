# shellcheck shell=bash
# Named checks in the guest: each runs by itself with a time limit, its output is shown only when it fails, and the next
# one runs whatever became of it. A warning of the kernel during a check fails it.
#
#   check NAME FUNCTION [ARGUMENT…]   run a check; within it every command has to succeed. Sets check_status. May not stand
#                                     where the shell ignores errexit (`if`, `||`): the check would ignore it as well
#   skip REASON                       in a check: it does not apply here
#   fail MESSAGE                      in a check: it is not as it should be
#   equal FOUND WANTED WHAT           in a check: fail unless both are the same
#   refused TEXT COMMAND…             in a check: the command has to fail, and to say TEXT (a regular expression)
#   poll SECONDS COMMAND…             wait until the command succeeds
#   monitor COMMAND [ARGUMENTS]       have QEMU's monitor do something, with its arguments as a JSON object (`run -M`)
#
# ONLY, a regular expression, leaves out checks whose names do not match. PATIENCE multiplies all limits, for machines that have more to do than this.

WORK=/run/check
readonly SKIPPED=77
# Seconds that one check may take, unless CHECK_LIMIT says otherwise before it is called.
CHECK_LIMIT=60
PATIENCE=${PATIENCE:-2}
check_number=0 check_status=0 check_passed=0 check_failed=0 check_skipped=0
check_failures=()
mkdir -p "$WORK"

# What the kernel says when something in it is broken.
readonly KERNEL_TROUBLE='WARNING: |BUG: |kernel BUG|Oops|Call Trace|general protection|INFO: task .* blocked|rcu.*(stall|detected)|refcount_t'

poll() {
    local until=$((SECONDS + $1 * PATIENCE))
    shift
    until "$@"; do
        if ((SECONDS >= until)); then
            echo "still not so after the time allowed: $*"
            return 1
        fi
        sleep 0.1
    done
}

fail() {
    echo "FAILED: $*"
    exit 1
}

skip() {
    echo "$*" >"$WORK/skip"
    exit "$SKIPPED"
}

equal() { [[ $1 == "$2" ]] || fail "$3 is '$1' and should be '$2'"; }

matches() { [[ $1 =~ $2 ]] || fail "$3 is '$1' and should match '$2'"; }

refused() {
    local pattern=$1 output status=0
    shift
    output=$("$@" 2>&1) || status=$?
    echo "$output"
    ((status != 0)) || fail "this succeeded: $*"
    [[ $output =~ $pattern ]] || fail "the refusal does not say '$pattern': $*"
}

# has_line PATTERN: whether the input has a line that the extended expression matches. It reads all of it first: `grep -q`
# ends at the first match, and what still writes to it then fails of a broken pipe, which pipefail reports.
has_line() {
    local text
    text=$(cat)
    grep -qE -- "$1" <<<"$text"
}

monitor() {
    local exchange=/run/job status arguments=${2:-'{}'}
    printf '{"execute": "%s", "arguments": %s}' "$1" "$arguments" >"$exchange/monitor-request.new"
    mv "$exchange/monitor-request.new" "$exchange/monitor-request"
    poll 20 test -e "$exchange/monitor-answer"
    {
        read -r status
        cat
    } <"$exchange/monitor-answer"
    rm "$exchange/monitor-answer"
    return "$status"
}

milliseconds() {
    local us=${EPOCHREALTIME/[.,]/}
    echo $((us / 1000))
}

# What the kernel said since the marker of this check.
kernel_log() { dmesg | sed "1,/^\[[^]]*\] check $check_number begins/d"; }

comment() { sed 's/^/#   /'; }

# Ends every process of a check that outlived its time. One that hangs in the kernel cannot be ended, only left behind.
end_group() {
    kill -TERM -- "-$1" 2>/dev/null
    sleep 1
    kill -KILL -- "-$1" 2>/dev/null
    return 0
}

# attempt FUNCTION [ARGUMENT…]: runs it under the time limit, its output in the log, and sets check_status.
attempt() {
    local pid timer ended
    rm -f "$WORK/skip"
    check_status=0
    # A process group of its own, so that what it leaves behind can be ended; not after `||`, where errexit would not hold.
    set -m
    (
        set -e
        "$@"
    ) >"$WORK/log" 2>&1 &
    pid=$!
    sleep $((CHECK_LIMIT * PATIENCE)) &
    timer=$!
    set +m
    wait -n -p ended "$pid" "$timer" || check_status=$?
    if [[ $ended == "$timer" ]]; then
        check_status=124
        echo "FAILED: not done after $((CHECK_LIMIT * PATIENCE)) s" >>"$WORK/log"
    else
        kill "$timer" 2>/dev/null
        wait "$timer" 2>/dev/null
    fi
    # It may have left programs running that are none of the target's.
    if kill -0 -- "-$pid" 2>/dev/null; then end_group "$pid"; fi
}

check() {
    local name=$1 began trouble=''
    shift
    # What a suite needs before and after its checks is not left out.
    if [[ -n ${ONLY:-} && ! $name =~ $ONLY && ! $name =~ :\ (set|clean)\ up$ ]]; then return 0; fi
    check_number=$((check_number + 1))
    echo "check $check_number begins: $name" >/dev/kmsg
    began=$(milliseconds)
    attempt "$@"
    if kernel_log | has_line "$KERNEL_TROUBLE"; then trouble=' (the kernel complains)'; fi
    report "$name" "$trouble" $(($(milliseconds) - began))
}

report() {
    local name=$1 trouble=$2 took=$3 seconds
    seconds=$(printf '%d.%d s' $((took / 1000)) $((took % 1000 / 100)))
    if [[ -z $trouble ]] && ((check_status == 0)); then
        check_passed=$((check_passed + 1))
        echo "ok $check_number - $name # $seconds"
    elif [[ -z $trouble ]] && ((check_status == SKIPPED)) && [[ -e $WORK/skip ]]; then
        check_skipped=$((check_skipped + 1))
        echo "ok $check_number - $name # SKIP $(<"$WORK/skip")"
    else
        check_failed=$((check_failed + 1))
        check_failures+=("$name")
        echo "not ok $check_number - $name$trouble # $seconds, status $check_status"
        tail -n "${CHECK_LOG_LINES:-60}" "$WORK/log" | comment
        echo '# kernel:'
        kernel_log | tail -n 40 | comment
        target_log | tail -n 30 | comment
    fi
}

# The rules above have to hold, or every praise is worth nothing: a failure in the middle counts, so does the time.
self_test() {
    # shellcheck disable=SC2317  # called by name
    fails_in_the_middle() {
        false
        true
    }
    attempt fails_in_the_middle
    ((check_status != 0)) || return 1
    attempt true
    ((check_status == 0)) || return 1
    CHECK_LIMIT=1 attempt sleep 30
    ((check_status == 124))
}

# Prints the plan and the sum. Fails when a check failed or none ran.
checks_end() {
    echo "1..$check_number"
    echo "# $check_passed passed, $check_failed failed, $check_skipped skipped"
    local name
    for name in "${check_failures[@]}"; do echo "# failed: $name"; done
    ((check_failed == 0 && check_passed > 0))
}
