#!/bin/bash
# The demo, as it runs in the guest: a file travels from drive A through B's memory into the GPU and back.
set -euo pipefail

demo=/usr/libexec/peermem-tests/peermem-demo
metrics=127.0.0.1:9489
port=127.0.0.1:7471
seed=${1:-$((RANDOM << 15 | RANDOM))}

say() { printf '\n== %s\n' "$*"; }

# The block device of the drive with this serial number.
drive() {
    local controller
    for controller in /sys/class/nvme/nvme*; do
        if [ "$(tr -d ' ' <"$controller/serial")" = "$1" ]; then
            basename "$controller"/nvme*n1 | sed 's|^|/dev/|'
            return
        fi
    done
    echo "no NVMe drive has the serial number $1" >&2
    return 1
}

drive_a=$(drive a)
drive_b=$(drive b)

echo "QEMU emulates the drives and the display adapter that plays the GPU; soft-RoCE copies with the CPU."
echo "What is shown is that the bytes arrive, not how fast."

say "peermemd, under systemd"
# The test GPU's driver exports device memory, which the daemon can't tell by itself.
cat >/etc/peermemd/peermemd.toml <<TOML
[metrics]
listen = "$metrics"
[registered]
exporters = ["peermem_testgpu"]
TOML
systemctl restart peermemd
peermemctl status
peermemctl regions

say "A file of 16 MiB on drive A (ext4), from seed $seed"
mkfs.ext4 -q -F "$drive_a"
mount "$drive_a" /mnt
trap 'umount /mnt' EXIT
$demo prepare --seed "$seed" /mnt/source
sync
ls -l /mnt/source

say "Device to device"
# Soft-RoCE's provider has no dma-buf registration; the preloaded library adds the one call for the test.
LD_PRELOAD=/usr/lib/peermem-tests/librxe_dmabuf.so $demo gpu --seed "$seed" --listen $port &
gpu=$!
until ss -Hltn "sport = :${port##*:}" | grep -q .; do
    kill -0 $gpu || wait $gpu
    sleep 0.1
done
$demo storage --seed "$seed" --connect $port --drive-a "$drive_a" --drive-b "$drive_b" --metrics $metrics \
    /mnt/source /mnt/target
wait $gpu
cmp /mnt/source /mnt/target

say "Nothing is left behind"
peermemctl leases
