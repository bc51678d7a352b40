//! [`PciAddress`]: where a function sits.

use std::fmt;
use std::str::FromStr;

/// The address of a PCI function: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// The domain (segment).
    pub domain: u32,
    /// The bus.
    pub bus: u8,
    /// The device, 0 to 31.
    pub device: u8,
    /// The function, 0 to 7.
    pub function: u8,
}

/// A text that is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a PCI address like 0000:01:00.0")]
pub struct PciAddressError(pub String);

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl FromStr for PciAddress {
    type Err = PciAddressError;

    /// Reads `0000:01:00.0`, or `01:00.0` in domain 0.
    fn from_str(text: &str) -> Result<Self, PciAddressError> {
        read(text).ok_or_else(|| PciAddressError(text.to_owned()))
    }
}

fn read(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.split_once('.')?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (domain, bus, device) = match parts.as_slice() {
        [bus, device] => ("0", *bus, *device),
        [domain, bus, device] => (*domain, *bus, *device),
        _ => return None,
    };
    // Numbers as the kernel writes them: hexadecimal digits and nothing else.
    let number = |text: &str, digits: usize| {
        let right = (1..=digits).contains(&text.len());
        let hex = right && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex { u32::from_str_radix(text, 16).ok() } else { None }
    };
    let address = PciAddress {
        domain: number(domain, 8)?,
        bus: u8::try_from(number(bus, 2)?).ok()?,
        device: u8::try_from(number(device, 2)?).ok()?,
        function: u8::try_from(number(function, 1)?).ok()?,
    };
    (address.device < 32 && address.function < 8).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let address: PciAddress = "0000:0a:1f.7".parse().unwrap();
        assert_eq!(address, PciAddress { domain: 0, bus: 10, device: 31, function: 7 });
        assert_eq!(address.to_string(), "0000:0a:1f.7");
        assert_eq!("0a:1f.7".parse(), Ok(address));
        assert_eq!("10000:01:00.0".parse::<PciAddress>().unwrap().to_string(), "10000:01:00.0");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "1",
            "01:00",
            "0000:01:20.0",
            "01:00.8",
            "01:00.0.",
            "+1:00.0",
            "0:0:0:0.0",
            "g:0.0",
        ] {
            let refused = text.parse::<PciAddress>().unwrap_err();
            assert!(refused.to_string().contains("like 0000:01:00.0"), "{text}");
        }
    }
}
