# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh and host.sh set and read
# Reservations between two hosts, each with its own connection and, without multipath, its own block device.

NQN=nqn.2026-01.io.example:reservations
MULTIPATH=N

suite_setup() {
    device file0 file 16 512
    subsystem "$NQN"
    namespace "$NQN" 1 file0 1 "$DEVICES/reservations"
    listen "$NQN" "$PORT1"
    connect_as "$HOST_A" "$NQN" "$PORT1" nr_io_queues=1 reconnect_delay=1
    disk_of "$controller" 1
    echo "$disk" >"$WORK/disk_a"
    echo "$controller" >"$WORK/controller"
    connect_as "$HOST_B" "$NQN" "$PORT1" nr_io_queues=1 reconnect_delay=1
    disk_of "$controller" 1
    echo "$disk" >"$WORK/disk_b"
    head -c 512 < <(yes reserved) >"$WORK/block"
}

# Reservation types.
readonly WRITE_EXCLUSIVE=1 EXCLUSIVE_ACCESS=2 WRITE_EXCLUSIVE_REGISTRANTS=3 EXCLUSIVE_ACCESS_REGISTRANTS=4
readonly WRITE_EXCLUSIVE_ALL=5 EXCLUSIVE_ACCESS_ALL=6
readonly CONFLICT='RESERVATION_CONFLICT|Reservation Conflict'
readonly KEY_A=0xaaaa0001 KEY_B=0xbbbb0002

hosts() {
    can_reserve
    disk_a=$(<"$WORK/disk_a")
    disk_b=$(<"$WORK/disk_b")
}

can_reserve() { target_can reservations || skip 'this target has no reservations'; }

# register DISK KEY, acquire DISK KEY TYPE, release DISK KEY TYPE, …
register() { nvme resv-register "/dev/$1" -n 1 --nrkey="$2" --rrega=0; }
unregister() { nvme resv-register "/dev/$1" -n 1 --crkey="$2" --rrega=1; }
acquire() { nvme resv-acquire "/dev/$1" -n 1 --crkey="$2" --rtype="$3" --racqa=0; }
preempt() { nvme resv-acquire "/dev/$1" -n 1 --crkey="$2" --prkey="$3" --rtype="$4" --racqa=1; }
release() { nvme resv-release "/dev/$1" -n 1 --crkey="$2" --rtype="$3" --rrela=0; }
clear_all() { nvme resv-release "/dev/$1" -n 1 --crkey="$2" --rrela=1; }
report_of() { nvme resv-report "/dev/$1" -n 1 --eds | tee "$WORK/report"; }

reads() { nvme read "/dev/$1" -s 0 -c 0 -z 512 -d "$WORK/back"; }
writes() { nvme write "/dev/$1" -s 0 -c 0 -z 512 -d "$WORK/block"; }
may_not() { refused "$CONFLICT" "$@"; }

# Whatever a check leaves behind: both hosts register anew and one clears.
start_over() {
    nvme resv-register "/dev/$disk_a" -n 1 --nrkey="$KEY_A" --rrega=2 --iekey
    clear_all "$disk_a" "$KEY_A"
    report_of "$disk_a"
    equal "$(field regctl <"$WORK/report")" 0 'registrants after a clear'
    equal "$(field rtype <"$WORK/report")" 0 'the type after a clear'
}

registers_and_reports() {
    hosts
    local generation
    (($(nvme id-ctrl "/dev/$(<"$WORK/controller")" | field oncs) & 0x20)) || fail 'oncs without reservations'
    (($(nvme id-ns "/dev/$disk_a" | field rescap) & 0x7e)) || fail 'rescap without types'
    start_over
    generation=$(field gen <"$WORK/report")
    register "$disk_a" "$KEY_A"
    register "$disk_b" "$KEY_B"
    # The same host with another key.
    may_not register "$disk_a" 0x77
    report_of "$disk_b"
    equal "$(field regctl <"$WORK/report")" 2 'the number of registrants'
    equal "$(field gen <"$WORK/report")" $((generation + 2)) 'the generation'
    grep -qi 'rkey *: *0*aaaa0001\|rkey *: *0x0*aaaa0001\|rkey *: *2863267841' "$WORK/report"
    # Host identifiers of 128 bits need the extended structure.
    refused '.' nvme resv-report "/dev/$disk_a" -n 1
    unregister "$disk_b" "$KEY_B"
    report_of "$disk_b"
    equal "$(field regctl <"$WORK/report")" 1 'the number of registrants afterwards'
}

# excludes TYPE WRITES READS: what host B may do, registered (first letter) and not (second), y or n each.
excludes() {
    local type=$1 write=$2 read=$3
    hosts
    start_over
    register "$disk_a" "$KEY_A"
    acquire "$disk_a" "$KEY_A" "$type"
    report_of "$disk_b"
    equal "$(field rtype <"$WORK/report")" "$type" 'the type that is reported'
    writes "$disk_a"
    reads "$disk_a"
    if [[ $write == ?y ]]; then writes "$disk_b"; else may_not writes "$disk_b"; fi
    if [[ $read == ?y ]]; then reads "$disk_b"; else may_not reads "$disk_b"; fi
    register "$disk_b" "$KEY_B"
    if [[ $write == y? ]]; then writes "$disk_b"; else may_not writes "$disk_b"; fi
    if [[ $read == y? ]]; then reads "$disk_b"; else may_not reads "$disk_b"; fi
    release "$disk_a" "$KEY_A" "$type"
    writes "$disk_b"
}

acquires_once() {
    hosts
    start_over
    # Who is not registered, or has another key, cannot acquire.
    may_not acquire "$disk_a" "$KEY_A" "$WRITE_EXCLUSIVE"
    register "$disk_a" "$KEY_A"
    may_not acquire "$disk_a" "$KEY_B" "$WRITE_EXCLUSIVE"
    acquire "$disk_a" "$KEY_A" "$WRITE_EXCLUSIVE"
    acquire "$disk_a" "$KEY_A" "$WRITE_EXCLUSIVE"
    register "$disk_b" "$KEY_B"
    may_not acquire "$disk_b" "$KEY_B" "$WRITE_EXCLUSIVE"
    # Release by one who is no holder changes nothing; a wrong type is refused.
    release "$disk_b" "$KEY_B" "$WRITE_EXCLUSIVE"
    may_not writes "$disk_b"
    refused 'INVALID_FIELD|Invalid Field' release "$disk_a" "$KEY_A" "$EXCLUSIVE_ACCESS"
    release "$disk_a" "$KEY_A" "$WRITE_EXCLUSIVE"
    writes "$disk_b"
}

preempts() {
    hosts
    start_over
    register "$disk_a" "$KEY_A"
    register "$disk_b" "$KEY_B"
    acquire "$disk_a" "$KEY_A" "$EXCLUSIVE_ACCESS"
    may_not reads "$disk_b"
    preempt "$disk_b" "$KEY_B" "$KEY_A" "$WRITE_EXCLUSIVE"
    report_of "$disk_b"
    equal "$(field rtype <"$WORK/report")" "$WRITE_EXCLUSIVE" 'the type afterwards'
    equal "$(field regctl <"$WORK/report")" 1 'the number of registrants afterwards'
    writes "$disk_b"
    reads "$disk_a"
    may_not writes "$disk_a"
    clear_all "$disk_b" "$KEY_B"
    writes "$disk_a"
}

outlives_connections() {
    hosts
    start_over
    register "$disk_a" "$KEY_A"
    acquire "$disk_a" "$KEY_A" "$WRITE_EXCLUSIVE"
    disconnect "$(<"$WORK/controller")"
    may_not writes "$disk_b"
    connect_as "$HOST_A" "$NQN" "$PORT1" nr_io_queues=1 reconnect_delay=1
    disk_of "$controller" 1
    echo "$disk" >"$WORK/disk_a"
    echo "$controller" >"$WORK/controller"
    writes "$disk"
    release "$disk" "$KEY_A" "$WRITE_EXCLUSIVE"
    writes "$disk_b"
}

# With CPTPL the target keeps them in a file: it dies and comes back, and they are still there.
outlives_the_target() {
    hosts
    start_over
    nvme resv-register "/dev/$disk_a" -n 1 --nrkey="$KEY_A" --rrega=0 --cptpl=3
    acquire "$disk_a" "$KEY_A" "$WRITE_EXCLUSIVE"
    report_of "$disk_a"
    equal "$(field ptpls <"$WORK/report")" 1 ptpls
    target_crash
    target_again
    poll 40 all_live
    report_of "$disk_b"
    equal "$(field rtype <"$WORK/report")" "$WRITE_EXCLUSIVE" 'the type after a restart'
    equal "$(field regctl <"$WORK/report")" 1 'the number of registrants after a restart'
    may_not writes "$disk_b"
    writes "$disk_a"
    # Without it they are forgotten.
    nvme resv-register "/dev/$disk_a" -n 1 --nrkey="$KEY_A" --rrega=2 --iekey --cptpl=2
    target_crash
    target_again
    poll 40 all_live
    report_of "$disk_b"
    equal "$(field regctl <"$WORK/report")" 0 'the number of registrants after a restart without CPTPL'
    writes "$disk_b"
}

all_live() {
    local name
    for name in $(controllers); do
        if ! state_is "$name" live; then return 1; fi
    done
}

# The kernel's own way to it, by its ioctls (linux/pr.h): register, reserve, release.
kernel_interface() {
    hosts
    start_over
    pr register "$disk_a" 0 43690
    pr reserve "$disk_a" 43690 1
    may_not writes "$disk_b"
    report_of "$disk_b"
    equal "$(field rtype <"$WORK/report")" "$WRITE_EXCLUSIVE" 'the type of the kernel'
    refused conflict pr reserve "$disk_b" 43690 1
    pr release "$disk_a" 43690 1
    writes "$disk_b"
    # To take a key back, this kernel asks to replace it by 0, which is no key.
    refused 'Invalid argument' pr register "$disk_a" 43690 0
}

pr() {
    python3 - "$@" <<'PYTHON'
import fcntl, struct, sys
what, disk, first, second = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
number, layout = {"register": (200, "=QQII"), "reserve": (201, "=QII"), "release": (202, "=QII")}[what]
values = (first, second, 0, 0) if what == "register" else (first, second, 0)
packed = struct.pack(layout, *values)
# _IOW('p', number, structure)
request = 1 << 30 | len(packed) << 16 | ord("p") << 8 | number
with open("/dev/" + disk, "r+b", buffering=0) as file:
    # With a buffer that can be written, ioctl gives the kernel's own result.
    status = fcntl.ioctl(file, request, bytearray(packed))
    if status:
        sys.exit(f"{what} on {disk}: status {status:#x}: conflict")
PYTHON
}

suite_checks() {
    check 'resv-register, resv-report: two hosts' registers_and_reports
    check 'resv-acquire: write exclusive' excludes "$WRITE_EXCLUSIVE" nn yy
    check 'resv-acquire: exclusive access' excludes "$EXCLUSIVE_ACCESS" nn nn
    check 'resv-acquire: write exclusive, registrants only' excludes "$WRITE_EXCLUSIVE_REGISTRANTS" yn yy
    check 'resv-acquire: exclusive access, registrants only' excludes "$EXCLUSIVE_ACCESS_REGISTRANTS" yn yn
    check 'resv-acquire: write exclusive, all registrants' excludes "$WRITE_EXCLUSIVE_ALL" yn yy
    check 'resv-acquire: exclusive access, all registrants' excludes "$EXCLUSIVE_ACCESS_ALL" yn yn
    check 'resv-acquire, resv-release: conflicts' acquires_once
    check 'resv-acquire: preempt' preempts
    check 'a reservation outlives the connection' outlives_connections
    check 'a reservation outlives the target' outlives_the_target
    check 'reservations by the ioctls of the kernel' kernel_interface
}
