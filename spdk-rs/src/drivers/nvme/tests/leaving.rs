//! Controllers on this machine that go, fail as a whole, or never answer.
#![allow(clippy::disallowed_types, reason = "an outcome is told by another task")]

use std::sync::Mutex;

use super::pcie::{Drive, events_of, trid_of};
use super::*;
use crate::bdev::DeviceEvent;
use crate::nvme::pcie::model::{Fault, Shape};

#[test]
fn a_controller_that_is_pulled_out_goes_with_its_devices() {
    // However long one that fails would be tried again.
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    let (desc, heard) = events_of(host, "pn1");
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    drive.model.inject(Fault::PulledOut);
    let writes: Vec<_> = (0..20).map(|i| handle.write(host.buf(1, i), i.into(), 1)).collect();
    let done = host.reactor.block_on(futures::future::join_all(writes));
    assert!(done.iter().all(|done| done.status == NvmeStatus::INVALID_NAMESPACE), "{done:?}");
    host.until("the end of the device", || host.registry.all().is_empty());
    drop((done, desc, handle));
    host.until("the end of the controller", || host.driver.controllers(None).is_empty());
    let unplugged = |event: &DeviceEvent| matches!(event, DeviceEvent::Unplugged { .. });
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!(heard.iter().filter(|event| unplugged(event)).count(), 1, "{heard:?}");
    assert!(heard.contains(&DeviceEvent::Removed), "{heard:?}");
    let again = drive.refused(options());
    assert!(again.contains("there is no such PCI function"), "{again}");
    assert_eq!(drive.finish().enabled, 1, "nobody tried it again");
}

#[test]
fn a_controller_that_the_kernel_wants_back_is_given_back_in_order() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    assert_eq!(host.write(&handle, 0, 8, 1), NvmeStatus::SUCCESS);
    drive.model.ask_back();
    host.until("the end of the device", || host.registry.all().is_empty());
    assert!(!host.write(&handle, 0, 1, 2).is_success());
    drop(handle);
    host.until("the end of the controller", || host.driver.controllers(None).is_empty());
    let seen = drive.model.seen();
    assert_eq!((seen.shutdowns, seen.left), (1, 0), "queues go, then it is told");
    // It was let go of: who comes next gets it.
    let handle = drive.attach(options());
    host.expect(&handle, 0, 8, 1);
    drop(handle);
    drive.finish();
}

#[test]
fn an_error_of_the_bus_resets_the_controller() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    let (desc, heard) = events_of(host, "pn1");
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    drive.model.fail_bus();
    host.until("a reset", || drive.model.seen().enabled == 2);
    host.until("a connection", || host.state() == ControllerState::Enabled);
    host.expect(&handle, 0, 1, 1);
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert!(heard.contains(&DeviceEvent::AdminQueueFailed), "{heard:?}");
    assert!(heard.contains(&DeviceEvent::Reconnected), "{heard:?}");
    drop((desc, handle));
    drive.finish();
}

#[test]
fn what_is_never_answered_ends_when_the_controller_is_detached() {
    // While it is being attached.
    let drive = Drive::new(Shape::default());
    drive.model.inject(Fault::DeafToScan);
    let (driver, trid) = (Arc::clone(&drive.host.driver), trid_of(&drive.model));
    let attached = Arc::<Mutex<Option<Result<Vec<String>, NvmeError>>>>::default();
    let told = Arc::clone(&attached);
    drive.host.reactor.spawn("attach", async move {
        let outcome = driver.attach("p", &trid, &options()).await;
        *told.lock().unwrap() = Some(outcome);
    });
    drive.host.until("the question", || drive.model.is_through());
    drive.host.detach_all();
    drive.host.until("the answer", || attached.lock().unwrap().is_some());
    let error = attached.lock().unwrap().take().unwrap().unwrap_err().to_string();
    assert!(error.contains("detaching"), "{error}");
    assert_eq!(drive.model.seen().shutdowns, 1, "it was told");
    // While its namespaces are looked at again.
    let handle = drive.attach(options());
    drive.model.inject(Fault::DeafToScan);
    drive.model.event(0x0004_0002);
    drive.host.until("the question", || drive.model.is_through());
    drop(handle);
    drive.host.detach_all();
    assert_eq!(drive.finish().shutdowns, 2);
}

#[test]
fn a_controller_that_fails_and_is_not_found_again_goes() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    drive.model.inject(Fault::Fatal);
    let write = handle.write(host.buf(1, 5), 9, 1);
    host.until("the failure", || host.state() != ControllerState::Enabled);
    drive.model.forget();
    assert_eq!(host.reactor.block_on(write).status, NvmeStatus::INVALID_NAMESPACE);
    drop(handle);
    host.until("the end of the controller", || host.driver.controllers(None).is_empty());
    drive.finish();
}
