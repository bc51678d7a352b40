# shellcheck shell=bash disable=SC2034,SC2154  # what lib.sh, host.sh and the suite `pcie` set and read
# The checks of the suite `pcie` on its namespace with zones, the second of $ODD.

# Zones of 32768 blocks, 24576 of which can be written.
zns() { "$IO_ENGINE" nvme zns "$@"; }

# zone NAMESPACE BLOCK CONDITION: whether a condition on `zone`, the zone that begins at a block, is true in Python.
zone() {
    zns report-zones "$1" -s "$2" -d 1 -r "$RPC" -o json >"$WORK/zone.json"
    json "$WORK/zone.json" "[zone for zone in it['zones'] if $3]"
}

# A daemon with the controller as `d`. What has no daemon ends with a shutdown of the controller, which opens no zone for anybody.
zoned_daemon() {
    setsid "$IO_ENGINE" --no-huge -s 64 -r "$RPC" >>"$WORK/export.log" 2>&1 </dev/null &
    echo $! >"$EXPORT_PID"
    poll 30 rpc spdk_get_version
    rpc bdev_nvme_attach_controller "{\"name\": \"d\", \"trtype\": \"PCIe\", \"traddr\": \"$ODD\"}"
    zns reset-zone dn2 --select-all --force -r "$RPC"
}

zones_are_managed() {
    local at=32768
    zoned_daemon
    zns id-ns dn2 -o json -r "$RPC" >"$WORK/zone.json"
    json "$WORK/zone.json" 'it["zone_size"] == 32768 and it["nr_zones"] == 16 and it["max_open"] == 4 and it["max_active"] == 6'
    zns report-zones dn2 -o json -r "$RPC" >"$WORK/zone.json"
    json "$WORK/zone.json" 'len(it["zones"]) == 16 and all(z["state"] == "empty" and z["cap"] == 24576 and z["wp"] == z["slba"] == i * 32768 for i, z in enumerate(it["zones"]))'
    zns report-zones dn2 -r "$RPC" | has_line 'empty'
    zns open-zone dn2 -s "$at" -r "$RPC"
    zone dn2 "$at" 'zone["state"] == "exp_open"'
    zns close-zone dn2 -s "$at" -r "$RPC"
    zone dn2 "$at" 'zone["state"] == "closed"'
    zns finish-zone dn2 -s "$at" -r "$RPC"
    zone dn2 "$at" 'zone["state"] == "full" and zone["wp"] is None'
    refused 'invalid zone state transition' zns close-zone dn2 -s "$at" -r "$RPC"
    refused 'force is needed' zns reset-zone dn2 -s "$at" -r "$RPC" </dev/null
    zns reset-zone dn2 -s "$at" --force -r "$RPC"
    zone dn2 "$at" 'zone["state"] == "empty" and zone["wp"] == zone["slba"]'
    refused 'invalid field' zns open-zone dn2 -s 5 -r "$RPC"
    refused 'refused' zns report-zones dn1 -r "$RPC"
    export_end
    # Without a daemon, too.
    zns report-zones "pcie:///$ODD/2" | has_line 'empty'
}

# nvme_io OPCODE FIRST_BLOCK BLOCKS WAY: a command on namespace 2 of a daemon's controller `d`; prints its status and result.
nvme_io() {
    "$IO_ENGINE" rpc -r "$RPC" bdev_nvme_send_cmd "$(python3 - "$@" <<'PYTHON'
import base64, json, struct, sys
opcode, first, blocks = (int(word, 0) for word in sys.argv[1:4])
sqe = struct.pack("<BBHI8x8x16xQI12x", opcode, 0, 0, 2, first, blocks - 1)
asked = {"name": "d", "cmd_type": "io", "data_direction": sys.argv[4], "cmdbuf": base64.urlsafe_b64encode(sqe).decode()}
if sys.argv[4] == "h2c":
    asked["data"] = base64.urlsafe_b64encode(bytes(range(256)) * 2 * blocks).decode()
else:
    asked["data_len"] = blocks * 512
print(json.dumps(asked))
PYTHON
    )" >"$WORK/cpl.json"
    python3 - "$WORK/cpl.json" <<'PYTHON'
import base64, json, struct, sys
cpl = base64.urlsafe_b64decode(json.load(open(sys.argv[1]))["cpl"])
result, status = struct.unpack("<Q6xH", cpl)
print("%#05x %d" % (status >> 1 & 0x7ff, result))
PYTHON
}

# Write pointers move with writes and appends, and what breaks their rules has a name.
zones_have_write_pointers() {
    local at=65536 i
    zoned_daemon
    rpc bdev_get_bdevs '{"name": "dn2"}' >"$WORK/zone.json"
    json "$WORK/zone.json" 'it[0]["zoned"] and it[0]["zone_size"] == 32768 and it[0]["num_zones"] == 16 and it[0]["max_open_zones"] == 4 and it[0]["max_active_zones"] == 6'
    json "$WORK/zone.json" 'it[0]["supported_io_types"]["zone_append"] and not it[0]["supported_io_types"]["unmap"]'
    rpc bdev_get_bdevs '{"name": "dn1"}' >"$WORK/zone.json"
    json "$WORK/zone.json" 'not it[0]["zoned"] and "zone_size" not in it[0]'
    # Append (7Dh) tells the place, write (01h) has to know it.
    equal "$(nvme_io 0x7d $at 8 h2c)" "0x000 $at" 'the first append'
    equal "$(nvme_io 0x7d $at 8 h2c)" "0x000 $((at + 8))" 'the second append'
    equal "$(nvme_io 0x01 $((at + 16)) 8 h2c)" '0x000 0' 'a write at the write pointer'
    matches "$(nvme_io 0x01 $((at + 16)) 8 h2c)" '^0x1bc ' 'a write behind it (invalid write)'
    matches "$(nvme_io 0x01 $((at + 24570)) 8 h2c)" '^0x1(b8|bc) ' 'a write across the capacity'
    zone dn2 $at 'zone["wp"] == 65536 + 24 and zone["state"] == "imp_open"'
    zns finish-zone dn2 -s $at -r "$RPC"
    matches "$(nvme_io 0x7d $at 8 h2c)" '^0x1b9 ' 'an append to a full zone'
    for i in 0 1 2 3; do zns open-zone dn2 -s $((i * 32768 + 98304)) -r "$RPC"; done
    refused 'too many open zones' zns open-zone dn2 -s 0 -r "$RPC"
    # What cannot be on zones says so.
    refused 'a pool cannot be on the zoned device .dn2.' rpc pool_create '{"name": "p", "disk": "bdev:///dn2"}'
    refused 'parts cannot be on the zoned device .dn2.' rpc bdev_split_create '{"base_bdev": "dn2", "split_count": 2}'
    rpc nvmf_create_transport '{"trtype": "TCP"}'
    rpc nvmf_create_subsystem "{\"nqn\": \"$NQN\", \"allow_any_host\": true}"
    refused 'no zoned namespaces' rpc nvmf_subsystem_add_ns "{\"nqn\": \"$NQN\", \"namespace\": {\"bdev_name\": \"dn2\"}}"
    # A layer has the zones of its base.
    rpc bdev_passthru_create '{"base_bdev_name": "dn2", "name": "z"}'
    rpc bdev_get_bdevs '{"name": "z"}' >"$WORK/zone.json"
    json "$WORK/zone.json" 'it[0]["zoned"] and it[0]["num_zones"] == 16'
    export_end
}

zones_under_load() {
    local shape depth size count
    # The largest is more than one command takes.
    for shape in '1 4k 100' '32 4k 1000' '8 512 300' '4 128k 60' '2 1M 30'; do
        read -r depth size count <<<"$shape"
        echo "depth $depth, $size"
        perf "pcie:///$ODD/2" -q "$depth" -o "$size" -n "$count"
    done
    # More than a pass: what was written once is written again after a reset.
    perf "pcie:///$ODD/2" -q 4 -o 1M -n 300
    "$IO_ENGINE" perf "pcie:///$ODD/2" --no-huge -s 64 -w write -q 4 -o 64k -n 1000 --flush-every 100
    "$IO_ENGINE" perf "pcie:///$ODD/2" --no-huge -s 64 -w write -q 2 -m 0x3 -o 4k -n 500
    "$IO_ENGINE" perf "pcie:///$ODD/2" --no-huge -s 64 -w randread -q 32 -n 1000
    refused 'which -w randwrite does not do' "$IO_ENGINE" perf "pcie:///$ODD/2" --no-huge -s 64 -w randwrite -n 1
    refused '8 zones at a time, and the device can have 4 open' "$IO_ENGINE" perf "pcie:///$ODD/2" --no-huge -s 64 -w write -q 8 -n 1
}

zoned_cases() {
    : "${BDEVIO:=}"
    [[ -n $BDEVIO ]] || skip 'BDEVIO is not given: the test binary of io-engine-test'
    IO_ENGINE_TEST_PCIE=$ODD/2 "$BDEVIO" pcie:: --test-threads 1 --nocapture
}

# What the engine leaves in zones is what the kernel's driver finds, and the other way round.
kernel_sees_the_same_zones() {
    local path disk at=32768
    "$IO_ENGINE" perf "pcie:///$ODD/2" --no-huge -s 64 -w write -q 1 -o 4k -n 10
    zns finish-zone "pcie:///$ODD/2" -s $at
    modprobe nvme
    "$IO_ENGINE" pci bind "$ODD" --driver nvme
    poll 20 zoned_disk
    equal "$(<"/sys/block/$disk/queue/zoned")" host-managed "the kernel's word for zones"
    equal "$(<"/sys/block/$disk/queue/chunk_sectors")" 32768 'the size of a zone'
    equal "$(<"/sys/block/$disk/queue/max_open_zones")" 4 'open zones'
    nvme zns report-zones "/dev/$disk" -d 2 | cat
    nvme zns report-zones "/dev/$disk" -d 2 -o json >"$WORK/zone.json"
    json "$WORK/zone.json" '[(z["slba"], z["cap"]) for z in it["zone_list"][:2]] == [(0, 24576), (32768, 24576)]'
    json "$WORK/zone.json" 'it["zone_list"][0]["wp"] == 80 and "full" in str(it["zone_list"][1]["state"]).lower()'
    # Its writes are found by the engine.
    nvme zns reset-zone "/dev/$disk" -s $at
    dd if=/dev/urandom of="/dev/$disk" bs=4k count=3 seek=4096 oflag=direct status=none
    "$IO_ENGINE" pci bind "$ODD"
    zone "pcie:///$ODD/2" $at 'zone["wp"] == 32768 + 24 and zone["state"] == "closed"'
}

# Sets `disk`: the one with zones.
zoned_disk() {
    for path in /sys/block/nvme*; do
        if [[ -e $path/queue/zoned && $(<"$path/queue/zoned") == host-managed ]]; then
            disk=${path##*/}
            return 0
        fi
    done
    return 1
}
