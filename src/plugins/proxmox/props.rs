//! Property strings, sizes and switches, as Proxmox VE spells them.

use std::collections::BTreeMap;

/// Keys and values of a property string, `name=eth0,bridge=ovsbr0`.
pub(super) type Props = BTreeMap<String, String>;

/// Reads a property string. A first part without a key is the value of `default`.
pub(super) fn parse(text: &str, default: &str) -> Props {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (default.to_owned(), part.to_owned()),
        })
        .collect()
}

/// Writes a property string, `first` before the others.
pub(super) fn print(props: &Props, first: &str) -> String {
    let pair = |(key, value): (&String, &String)| format!("{key}={value}");
    let head = props.get_key_value(first).map(pair);
    let rest = props.iter().filter(|(key, _)| *key != first).map(pair);
    head.into_iter().chain(rest).collect::<Vec<_>>().join(",")
}

/// Writes a mount: its volume before the others, and without a key unless it would then be taken for one.
pub(super) fn print_mount(volume: &str, props: &Props) -> String {
    let rest = props.iter().map(|(key, value)| format!("{key}={value}"));
    let volume = if volume.contains('=') { format!("volume={volume}") } else { volume.to_owned() };
    std::iter::once(volume).chain(rest).collect::<Vec<_>>().join(",")
}

/// A switch: 1 and 0, and the words that older configurations hold.
pub(super) fn is_on(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true")
}

/// A switch, as it is sent.
pub(super) const fn switch(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

/// Bytes in a size such as `8G`, `512M` or a plain number; `None` where it is none.
pub(super) fn bytes(size: &str) -> Option<u64> {
    let (number, unit) = match size.find(|char: char| !char.is_ascii_digit() && char != '.') {
        Some(at) => size.split_at(at),
        None => (size, ""),
    };
    let factor: u64 = match unit.to_ascii_uppercase().as_str() {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let fraction: f64 = number.parse().ok()?;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // A size with a fraction was written by hand; it is exact enough.
    Some((fraction * factor as f64) as u64)
}

/// A number with a fraction, in thousandths; `None` where it is none.
pub(super) fn thousandths(text: &str) -> Option<u32> {
    let number: f64 = text.trim().parse().ok()?;
    let scaled = (number * 1000.0).round();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..=f64::from(u32::MAX)).contains(&scaled).then_some(scaled as u32)
}

/// Elements of a list, whichever of the separators stands between them.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([';', ',', ' ']).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn property_strings_go_there_and_back() {
        let props = parse("name=eth0,bridge=ovsbr0,tag=20", "");
        assert_eq!(props.get("tag").map(String::as_str), Some("20"));
        assert_eq!(print(&props, "name"), "name=eth0,bridge=ovsbr0,tag=20");
        let mut mount = parse("local-lvm:vm-101-disk-0,size=8G", "volume");
        let volume = mount.remove("volume").unwrap_or_default();
        assert_eq!(print_mount(&volume, &mount), "local-lvm:vm-101-disk-0,size=8G");
        let folder = parse(&print_mount("/srv/a=b", &mount), "volume");
        assert_eq!(folder.get("volume").map(String::as_str), Some("/srv/a=b"));
    }

    #[test]
    fn sizes_and_numbers() {
        assert_eq!(
            (bytes("8G"), bytes("512M"), bytes("4096"), bytes("1.5K")),
            (Some(8 << 30), Some(512 << 20), Some(4096), Some(1536))
        );
        assert_eq!((bytes(""), bytes("8X"), bytes("big")), (None, None, None));
        assert_eq!(
            (thousandths("1.5"), thousandths("2"), thousandths("-1"), thousandths("x")),
            (Some(1500), Some(2000), None, None)
        );
    }
}
