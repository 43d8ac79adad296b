//! Functions that the IOMMU can't tell apart, or that someone else has.

use peermem_scenarios::{
    drive::Drive,
    edu::Edu,
    vfio::{EDU, Rebound, address_of, bar, snapshot, taking},
};
use peermemd::{
    mapper::{AddressBits, Initiator, InitiatorError},
    sys::vfio::{GroupError, NotOpened},
    vfio::{Function, OpenError},
};
use rustix::io::Errno;

#[test]
fn a_function_of_the_kernels_is_not_taken() {
    let drive = Drive::named("a").address;
    let refused = Function::open(&snapshot(), drive, taking()).unwrap_err();
    assert!(matches!(refused, OpenError::NotBound { .. }), "{refused}");
    assert!(refused.to_string().contains("to nvme:"), "{refused}");
}

#[test]
fn a_function_that_another_has_is_not_taken_twice() {
    let edu = Edu::open();
    let refused = Function::open(&snapshot(), edu.address(), taking()).unwrap_err();
    let OpenError::Group(GroupError::Open(NotOpened { source, .. })) = refused else { panic!("{refused}") };
    assert_eq!(source, Errno::BUSY);
    drop(edu);
    Function::open(&snapshot(), address_of(EDU), taking()).unwrap();
}

#[test]
fn a_shared_group_is_refused_and_its_other_members_named() {
    // Two functions of one device, which the IOMMU can't tell apart.
    let [c, d] = ["c", "d"].map(|name| Drive::named(name).address);
    let open = || Initiator::open(&snapshot(), c, AddressBits::ALL, taking()).unwrap_err();
    let _c = Rebound::to(c, "nvme", "vfio-pci");
    let refused = open();
    assert!(matches!(refused, InitiatorError::Open(OpenError::NotViable { .. })), "{refused}");
    assert!(refused.to_string().contains(&format!("with {d} (driver nvme)")), "{refused}");

    let _d = Rebound::to(d, "nvme", "vfio-pci");
    let refused = open();
    assert!(matches!(refused, InitiatorError::SharedGroup { .. }), "{refused}");
    assert!(refused.to_string().contains(&format!("with {d} (driver vfio-pci)")), "{refused}");

    // What serves memory needs no group of its own. A controller's registers hold its interrupt table, its CMB doesn't.
    let function = Function::open(&snapshot(), c, taking()).unwrap();
    let [registers, memory] = [0, 2].map(|index| function.device().bar(bar(index)).unwrap());
    assert!(registers.has_interrupt_table && !memory.has_interrupt_table, "{registers:?} {memory:?}");
}
