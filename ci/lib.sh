# shellcheck shell=bash
# Shared by ci/check and ci/test: runs named steps, keeps every result, and reports all of them at the end,
# so that one run shows everything that is wrong instead of the first thing that is wrong.

step_names=()
step_results=()
step_millis=()
step_notes=()
step_logs=()

# A step that ends with this status was not applicable here; its last line of output says why.
readonly SKIPPED=77

step_dir=$(mktemp -d "${TMPDIR:-/tmp}/io-engine-ci.XXXXXX")
trap 'rm -rf "$step_dir"' EXIT

now_ms() {
    # EPOCHREALTIME has microseconds and a decimal sign that follows the locale.
    local us=${EPOCHREALTIME/[.,]/}
    echo $((us / 1000))
}

seconds() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# record NAME RESULT MILLIS NOTE LOG: adds a row to the table.
record() {
    step_names+=("$1")
    step_results+=("$2")
    step_millis+=("$3")
    step_notes+=("$4")
    step_logs+=("$5")
}

# skip NAME WHY: a step that this machine cannot run.
skip() {
    printf '%-7s %s (%s)\n' skipped "$1" "$2"
    record "$1" skipped 0 "$2" ''
}

# step MODE NAME COMMAND…: runs the command and records what became of it. MODE `live` shows the output while it
# comes; MODE `quiet` shows it only in the summary, and only when the command failed.
# A line that starts with "remark: " becomes the remark of the row in the table.
step() {
    local mode=$1 name=$2 log began took status note result=passed
    shift 2
    log=$step_dir/${#step_names[@]}.log
    began=$(now_ms)
    if [[ $mode == live ]]; then
        printf '\n==> %s\n' "$name"
        "$@" 2>&1 | tee "$log"
        status=${PIPESTATUS[0]}
    else
        "$@" >"$log" 2>&1
        status=$?
    fi
    took=$(($(now_ms) - began))
    note=$(grep -a '^remark: ' "$log" | tail -n 1 | cut -c 9-)
    if ((status == SKIPPED)); then
        result=skipped
        note=${note:-$(tail -n 1 "$log")}
    elif ((status != 0)); then
        result=FAILED
        note=${note:-status $status}
        if ((status == 124)); then note='ran into its time limit'; fi
    fi
    printf '%-7s %s (%s s)\n' "$result" "$name" "$(seconds "$took")"
    record "$name" "$result" "$took" "$note" "$log"
}

# summary TAIL: prints the last TAIL lines of every failed step, then the table, then the closing line. Returns 1 when
# anything failed.
summary() {
    local tail_lines=$1 i passed=0 failed=0 skipped=0 line
    for i in "${!step_names[@]}"; do
        case ${step_results[i]} in
            passed) passed=$((passed + 1)) ;;
            skipped) skipped=$((skipped + 1)) ;;
            *)
                failed=$((failed + 1))
                printf '\n---- %s ----\n' "${step_names[i]}"
                if [[ -n ${step_logs[i]} ]]; then
                    grep -av '^remark: ' "${step_logs[i]}" | tail -n "$tail_lines"
                fi
                ;;
        esac
    done
    printf '\n%-34s %-8s %9s  %s\n' step result seconds remark
    for i in "${!step_names[@]}"; do
        printf '%-34s %-8s %9s  %s\n' "${step_names[i]}" "${step_results[i]}" \
            "$(seconds "${step_millis[i]}")" "${step_notes[i]}"
    done
    line="$passed passed, $failed failed"
    if ((skipped > 0)); then line+=", $skipped skipped"; fi
    printf '\n%s\n' "$line"
    ((failed == 0))
}

# The rustup proxies, nextest and cargo-deny are usually in cargo's own bin directory, which a non-login shell may
# not have on its PATH.
find_cargo() {
    local bin=${CARGO_HOME:-${HOME:-/nonexistent}/.cargo}/bin
    case ":$PATH:" in
        *":$bin:"*) ;;
        *) PATH=$PATH:$bin ;;
    esac
    if ! command -v cargo >/dev/null; then
        echo 'cargo is not installed: get it from https://rustup.rs (the packages of Debian 12 are too old)'
        return 1
    fi
}

# Says clearly what is missing when the pinned toolchain, or a part of it, is not there. rustup fetches a missing
# toolchain by itself when it has a network, so this only reports when that did not work.
check_toolchain() {
    local channel have
    channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
    if command -v rustup >/dev/null && [[ $'\n'$(rustup toolchain list 2>/dev/null) != *$'\n'"$channel"* ]]; then
        echo "rust-toolchain.toml pins Rust $channel, which is not installed; asking rustup for it"
        if ! rustup toolchain install "$channel" --profile minimal -c rustfmt -c clippy; then
            echo "Rust $channel could not be installed. Remedy, on a machine with a network:"
            echo "    rustup toolchain install $channel --profile minimal -c rustfmt -c clippy"
            return 1
        fi
    fi
    if ! have=$(rustc --version 2>&1); then
        echo "rustc does not run: $have"
        return 1
    fi
    echo "$have; rust-toolchain.toml pins $channel"
    have=${have#rustc }
    have=${have%% *}
    have=${have%%-*}
    if [[ $(printf '%s\n' "$channel" "$have" | sort -V | head -n 1) != "$channel" ]]; then
        echo "Rust $have is older than $channel; install rustup (https://rustup.rs) or a newer package"
        return 1
    fi
}

# Every file of the repository, tracked or new, one per line. Git refuses to read a clone that belongs to another user
# (a common case in containers); then the tree is walked instead.
repository_files() {
    git ls-files --cached --others --exclude-standard 2>/dev/null ||
        find . \( -name target -o -name .git \) -prune -o -type f -printf '%P\n'
}
