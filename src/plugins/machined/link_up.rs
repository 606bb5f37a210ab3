//! Sets the host side of a container's network up.
//!
//! systemd-nspawn makes it and leaves that to whoever manages networks on the host; Open vSwitch forwards nothing through
//! a device that is down, and sets none up but its own. So op-dbus does it, by rtnetlink(7), for the containers whose
//! settings it wrote. It takes CAP_NET_ADMIN.

use std::io;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};

/// `RTM_NEWLINK`.
const NEW_LINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_AND_ACK: u16 = 1 | 4;
/// `NLMSG_ERROR`, which with a zero is the acknowledgement.
const ERROR: u16 = 2;
/// `IFF_UP`.
const UP: u32 = 1;
/// `IFLA_IFNAME`.
const NAME: u16 = 3;
/// Length of `struct nlmsghdr` and `struct ifinfomsg`.
const HEADERS: usize = 32;
/// Length of an attribute's header, `struct rtattr`.
const ATTRIBUTE: usize = 4;

/// Sets the device of that name up. One that is up stays so.
pub(super) fn link_up(name: &str) -> io::Result<()> {
    // An unconnected socket of this family speaks to the kernel.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    send(&socket, &request(name)?, SendFlags::empty())?;
    let mut buffer = [0; 256];
    let (answer, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    outcome(buffer.get(..answer).unwrap_or_default())
}

/// The message: header, which flags and which of them to touch, and of which device.
fn request(name: &str) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    // With the zero that ends it; the message is filled up to whole words.
    let attribute = ATTRIBUTE + name.len() + 1;
    let length = HEADERS + attribute.next_multiple_of(4);
    let mut out = Vec::with_capacity(length);
    out.extend(u32::try_from(length).map_err(too_long)?.to_ne_bytes());
    out.extend(NEW_LINK.to_ne_bytes());
    out.extend(REQUEST_AND_ACK.to_ne_bytes());
    // Sequence number and sender: the one request of a socket of its own.
    out.extend([0; 8]);
    // Any family, a byte of nothing, any kind of device, and no index: the name tells which.
    out.extend([0; 8]);
    out.extend(UP.to_ne_bytes());
    out.extend(UP.to_ne_bytes());
    out.extend(u16::try_from(attribute).map_err(too_long)?.to_ne_bytes());
    out.extend(NAME.to_ne_bytes());
    out.extend(name.as_bytes());
    out.resize(length, 0);
    Ok(out)
}

/// What the kernel answers: the number of an error, negative, or zero.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kernel_understands_the_request() {
        // Whoever may not set devices up hears of that first. (The loopback device is up on any machine.)
        let (no_device, not_permitted) = (Some(19), Some(1));
        let error = link_up("nobody-has-this").unwrap_err();
        assert!([no_device, not_permitted].contains(&error.raw_os_error()), "{error}");
        let lo = link_up("lo").map_err(|error| error.raw_os_error());
        assert!(matches!(lo, Ok(()) | Err(Some(1))), "{lo:?}");
    }

    #[test]
    fn half_an_answer_is_an_error() {
        for answer in [&[][..], &[0; 20], &[36, 0, 0, 0, 2, 0]] {
            outcome(answer).unwrap_err();
        }
    }
}
