# Newer systemds do the first two by themselves when such files are installed.
systemd-sysusers peermemd.conf
systemd-tmpfiles --create peermemd.conf || :
# The distribution's presets say whether the service is enabled; on an upgrade nothing changes.
if [ "$1" -eq 1 ] && [ -x /usr/lib/systemd/systemd-update-helper ]; then
    /usr/lib/systemd/systemd-update-helper install-system-units peermemd.socket peermemd.service || :
fi
