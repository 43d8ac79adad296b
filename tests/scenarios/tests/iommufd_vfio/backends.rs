//! Which interface a function is taken by, and who else can have it.

use peermem_scenarios::{
    edu::Edu,
    vfio::{EDU, address_of, snapshot, taking},
};
use peermemd::vfio::{Backend, Function, OpenError, Space, Taking};

fn open(backend: Backend) -> Result<Function, OpenError> {
    Function::open(&snapshot(), address_of(EDU), Taking { backend, ..Taking::default() })
}

fn is_in_container(function: &Function) -> bool {
    matches!(function.descriptors().space, Space::Container { .. })
}

#[test]
fn containers_are_preferred_where_they_are() {
    for (backend, by_container) in
        [(Backend::Auto, true), (Backend::Container, true), (Backend::Iommufd, false)]
    {
        assert_eq!(is_in_container(&open(backend).unwrap()), by_container, "{backend:?}");
    }
}

#[test]
fn a_function_that_another_has_is_not_taken_twice() {
    assert_eq!(taking().backend, Backend::Iommufd);
    let edu = Edu::open();
    let refused = open(Backend::Iommufd).unwrap_err();
    assert!(refused.is_in_use(), "{refused}");
    let refused = open(Backend::Container).unwrap_err();
    assert!(matches!(refused, OpenError::Group(_) | OpenError::Device { .. }), "{refused}");
    drop(edu);
    open(Backend::Iommufd).unwrap();
}

#[test]
fn a_function_without_a_file_of_its_own_is_refused() {
    let mut snapshot = snapshot();
    let address = address_of(EDU);
    snapshot.functions.get_mut(&address).unwrap().details.vfio_device = None;
    let refused = Function::open(&snapshot, address, taking()).unwrap_err();
    assert!(matches!(refused, OpenError::NoIommufd(_)), "{refused}");
    assert!(refused.to_string().contains("CONFIG_VFIO_DEVICE_CDEV"), "{refused}");
}
