//! The name, the connection, and the end.

use op_dbus::bus::BusError;
use zbus::message::Flags;

use crate::{
    fixture::{self, JOB},
    hub::{Bed, until_reply},
};

#[tokio::test]
async fn the_name_is_had_once() {
    let first = Bed::start(fixture::before()).await;
    let publisher = op_dbus::model::Publisher::new(fixture::before());
    let (commands, _receiver) = tokio::sync::mpsc::unbounded_channel();
    let (_notices, told) = tokio::sync::mpsc::unbounded_channel();
    let config = op_dbus::bus::BusConfig {
        address: op_dbus::bus::BusAddress::Address(first.bus.address.clone()),
        access: op_dbus::bus::Access::SameUser,
        limits: Default::default(),
        parse: op_dbus::bus::ParseDocument::new(crate::hub::parse),
        ready: None,
    };
    let hub = op_dbus::reconcile::Hub { commands, reader: publisher.reader() };
    let second = op_dbus::bus::serve(config, hub, told, std::future::pending()).await;
    assert!(matches!(second, Err(BusError::NameTaken)), "{second:?}");
    first.client().await.ping().await;
}

#[tokio::test]
async fn a_bus_that_ends_is_an_error() {
    let mut bed = Bed::start(fixture::before()).await;
    bed.bus.kill();
    let end = bed.served.await.unwrap();
    assert!(matches!(&end, Err(why @ BusError::Lost(_)) if why.may_retry()), "{end:?}");
}

#[tokio::test]
async fn at_the_end_those_who_wait_are_told_and_the_name_is_free() {
    let mut bed = Bed::start(fixture::before()).await;
    let client = bed.client().await;
    let mut stream = client.listen().await;
    let waiting = client.send(JOB, "org.opdbus.Job", "Wait", Flags::empty(), &()).await;
    client.ping().await;
    bed.shutdown.take().unwrap().send(()).unwrap();
    let reply = until_reply(&mut stream, waiting).await.pop().unwrap();
    assert_eq!(reply.header().error_name().unwrap().as_str(), "org.opdbus.Error.Unavailable");
    bed.served.await.unwrap().unwrap();
    let taken = client.connection.request_name("org.opdbus").await;
    assert!(taken.is_ok(), "{taken:?}");
}
