//! One uevent: `ACTION@DEVPATH`, then `KEY=VALUE`s, each ended by a NUL.

use std::str::FromStr;

use thiserror::Error;

use super::{Change, PciAction, RdmaAction};

/// A message without a value that it must have.
#[derive(Debug, Error)]
#[error("its {key} is missing, or isn't what the kernel would write")]
pub(super) struct Malformed {
    key: &'static str,
}

/// What a message of the kernel's says; `None` if it is about something else.
pub(super) fn parse(message: &[u8]) -> Result<Option<Change>, Malformed> {
    let value = |key| value(message, key).ok_or(Malformed { key });
    let change = match (value("SUBSYSTEM")?, value("ACTION")?) {
        ("pci", action) => {
            let action = match action {
                "add" => PciAction::Add,
                "remove" => PciAction::Remove,
                "bind" => PciAction::Bind,
                "unbind" => PciAction::Unbind,
                "change" => PciAction::Change,
                _ => return Ok(None),
            };
            Change::Pci { address: device(message, "DEVPATH")?, action }
        }
        ("infiniband", action) => {
            let action = match action {
                "add" => RdmaAction::Add,
                "remove" => RdmaAction::Remove,
                "move" => RdmaAction::Rename { from: device(message, "DEVPATH_OLD")? },
                _ => return Ok(None),
            };
            Change::Rdma { name: device(message, "DEVPATH")?, action }
        }
        _ => return Ok(None),
    };
    Ok(Some(change))
}

/// The device at the end of a path in sysfs.
fn device<T: FromStr>(message: &[u8], key: &'static str) -> Result<T, Malformed> {
    let name = value(message, key).and_then(|path| path.rsplit('/').next());
    name.and_then(|name| name.parse().ok()).ok_or(Malformed { key })
}

fn value<'a>(message: &'a [u8], key: &str) -> Option<&'a str> {
    let mut fields = message.split(|byte| *byte == 0);
    let value = fields.find_map(|field| field.strip_prefix(key.as_bytes())?.strip_prefix(b"="))?;
    str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(variables: &[(&str, &str)]) -> Vec<u8> {
        let mut message = b"what@ever\0".to_vec();
        for (key, value) in variables {
            message.extend(format!("{key}={value}\0").bytes());
        }
        message
    }

    /// A message as the kernel sends it, of a function with a driver.
    fn pci(action: &str) -> Vec<u8> {
        message(&[
            ("ACTION", action),
            ("DEVPATH", "/devices/pci0000:00/0000:00:04.0/0000:04:00.0"),
            ("SUBSYSTEM", "pci"),
            ("DRIVER", "nvme"),
            ("PCI_SLOT_NAME", "0000:04:00.0"),
            ("SEQNUM", "1871"),
        ])
    }

    fn rdma(action: &str) -> Vec<u8> {
        message(&[
            ("ACTION", action),
            ("DEVPATH", "/devices/pci0000:00/0000:05:00.0/infiniband/rocep5s0"),
            ("DEVPATH_OLD", "/devices/pci0000:00/0000:05:00.0/infiniband/mlx5_0"),
            ("SUBSYSTEM", "infiniband"),
        ])
    }

    #[test]
    fn functions_come_and_go() {
        let actions = [
            ("add", PciAction::Add),
            ("remove", PciAction::Remove),
            ("bind", PciAction::Bind),
            ("unbind", PciAction::Unbind),
            ("change", PciAction::Change),
        ];
        for (text, action) in actions {
            let address = "0000:04:00.0".parse().unwrap();
            assert_eq!(parse(&pci(text)).unwrap(), Some(Change::Pci { address, action }));
        }
    }

    #[test]
    fn rdma_devices_come_and_go_and_get_other_names() {
        let rename = RdmaAction::Rename { from: "mlx5_0".parse().unwrap() };
        for (text, action) in [("add", RdmaAction::Add), ("remove", RdmaAction::Remove), ("move", rename)] {
            let name = "rocep5s0".parse().unwrap();
            assert_eq!(parse(&rdma(text)).unwrap(), Some(Change::Rdma { name, action }));
        }
    }

    #[test]
    fn other_things_are_nothing() {
        let disk = message(&[("ACTION", "add"), ("DEVPATH", "/devices/x/nvme0n1"), ("SUBSYSTEM", "block")]);
        for message in [disk, pci("offline"), rdma("online")] {
            assert_eq!(parse(&message).unwrap(), None);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (key, value) in
            [("DEVPATH", "/devices/pci0000:00"), ("DEVPATH", ""), ("DEVPATH", "/"), ("X", "/0000:04:00.0")]
        {
            let message = message(&[("ACTION", "add"), (key, value), ("SUBSYSTEM", "pci")]);
            assert!(parse(&message).is_err(), "{key}={value}");
        }
        for message in [&b""[..], b"SUBSYSTEM=\xff\0", b"SUBSYSTEM"] {
            assert!(matches!(parse(message), Err(Malformed { key: "SUBSYSTEM" })));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_message_is_parsed_or_refused(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            for mut message in [pci("add"), rdma("move")] {
                let at = at.index(message.len());
                message[at] = byte;
                let _ = parse(&message);
                message.truncate(cut.index(message.len()));
                let _ = parse(&message);
            }
        }
    }
}
