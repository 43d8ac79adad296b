if [ "$1" -eq 0 ] && [ -x /usr/lib/systemd/systemd-update-helper ]; then
    /usr/lib/systemd/systemd-update-helper remove-system-units \
        peermemd.socket peermemd.service peermem-selftest.service || :
fi
