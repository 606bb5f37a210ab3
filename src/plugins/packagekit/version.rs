//! Which of two versions is newer, as dpkg (deb-version(7)) and rpm (rpm-version(7)) have it.

use std::cmp::Ordering;

/// Whose rules count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// dpkg's.
    Deb,
    /// rpm's.
    Rpm,
}

impl Scheme {
    /// Compares two versions.
    pub(super) fn compare(self, one: &str, other: &str) -> Ordering {
        let (one, other) = (Parts::of(one), Parts::of(other));
        let part = match self {
            Self::Deb => deb_part,
            Self::Rpm => rpm_part,
        };
        compare_numbers(one.epoch, other.epoch)
            .then_with(|| part(one.upstream, other.upstream))
            .then_with(|| part(one.revision, other.revision))
    }
}

/// `epoch:upstream-revision`.
struct Parts<'v> {
    epoch: &'v str,
    upstream: &'v str,
    revision: &'v str,
}

impl<'v> Parts<'v> {
    fn of(version: &'v str) -> Self {
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Self { epoch, upstream, revision }
    }
}

/// Compares runs of digits of any length.
fn compare_numbers(one: &str, other: &str) -> Ordering {
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// Splits what is before the first byte that the test does not hold for.
fn split_while(text: &str, holds: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !holds(byte)).unwrap_or(text.len());
    // Both tests are for ASCII, whose bytes are whole characters; anything else ends up as one rest.
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// dpkg: runs of other characters and runs of digits in turn; `~` is before the end, letters before the rest.
fn deb_part(mut one: &str, mut other: &str) -> Ordering {
    let weight = |byte: Option<u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(byte),
        Some(byte) => i32::from(byte) + 256,
    };
    while !one.is_empty() || !other.is_empty() {
        let (text, rest) = split_while(one, |byte| !byte.is_ascii_digit());
        let (other_text, other_rest) = split_while(other, |byte| !byte.is_ascii_digit());
        for at in 0..text.len().max(other_text.len()) {
            let order = weight(text.as_bytes().get(at).copied()).cmp(&weight(other_text.as_bytes().get(at).copied()));
            if order.is_ne() {
                return order;
            }
        }
        let (number, rest) = split_while(rest, |byte| byte.is_ascii_digit());
        let (other_number, other_rest) = split_while(other_rest, |byte| byte.is_ascii_digit());
        let order = compare_numbers(number, other_number);
        if order.is_ne() {
            return order;
        }
        (one, other) = (rest, other_rest);
    }
    Ordering::Equal
}

/// rpm: segments of letters and of digits, whatever is between them; numbers are newer than letters, `~` is before the
/// end and `^` right after it.
fn rpm_part(mut one: &str, mut other: &str) -> Ordering {
    let counts = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'~' || byte == b'^';
    loop {
        one = split_while(one, |byte| !counts(byte)).1;
        other = split_while(other, |byte| !counts(byte)).1;
        match (one.strip_prefix('~'), other.strip_prefix('~')) {
            (Some(rest), Some(other_rest)) => {
                (one, other) = (rest, other_rest);
                continue;
            }
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        match (one.strip_prefix('^'), other.strip_prefix('^')) {
            (Some(rest), Some(other_rest)) => {
                (one, other) = (rest, other_rest);
                continue;
            }
            (Some(_), None) => return if other.is_empty() { Ordering::Greater } else { Ordering::Less },
            (None, Some(_)) => return if one.is_empty() { Ordering::Less } else { Ordering::Greater },
            (None, None) => {}
        }
        if one.is_empty() || other.is_empty() {
            return one.len().min(1).cmp(&other.len().min(1));
        }
        let digits = one.starts_with(|first: char| first.is_ascii_digit());
        let alike = |byte: u8| if digits { byte.is_ascii_digit() } else { byte.is_ascii_alphabetic() };
        let (segment, rest) = split_while(one, alike);
        let (other_segment, other_rest) = split_while(other, alike);
        if other_segment.is_empty() {
            return if digits { Ordering::Greater } else { Ordering::Less };
        }
        let order = if digits { compare_numbers(segment, other_segment) } else { segment.cmp(other_segment) };
        if order.is_ne() {
            return order;
        }
        (one, other) = (rest, other_rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn ordered(scheme: Scheme, versions: &[&str]) {
        for (at, older) in versions.iter().enumerate() {
            for (other, newer) in versions.iter().enumerate() {
                assert_eq!(scheme.compare(older, newer), at.cmp(&other), "{older} {newer}");
            }
        }
    }

    #[test]
    fn debian_versions() {
        // deb-version(7), and versions that Debian really had.
        let rising = ["~~", "~~a", "~", "", "a"];
        ordered(Scheme::Deb, &rising);
        let rising = [
            "1.0~beta1~svn1245",
            "1.0~beta1",
            "1.0",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1+deb12u1",
            "1.0-1.1",
            "1.0-2",
            "1.0a-1",
            "1.0+dfsg-1",
            "1.0.1-1",
            "1.2-1",
            "1.10-1",
            "2.36-9+deb12u4",
            "2.36-9+deb12u14",
            "1:0.9-1",
            "10:0-1",
        ];
        ordered(Scheme::Deb, &rising);
        assert_eq!(Scheme::Deb.compare("1.0", "0:1.0-0"), Ordering::Equal);
        assert_eq!(Scheme::Deb.compare("1.00", "1.0"), Ordering::Equal);
        assert_eq!(Scheme::Deb.compare("99999999999999999999998", "99999999999999999999999"), Ordering::Less);
    }

    #[test]
    fn rpm_versions() {
        let rising =
            ["1.0~rc1-1", "1.0-1.fc38", "1.0-1.fc39", "1.0-2", "1.0^git1-1", "1.0.1-1", "1.10-1", "2-1", "1:0-1"];
        ordered(Scheme::Rpm, &rising);
        for (one, other, order) in [
            ("1.0", "1.0", Ordering::Equal),
            ("1.0", "1_0", Ordering::Equal),
            ("1.a", "1.1", Ordering::Less),
            ("a", "b", Ordering::Less),
            ("1.0^", "1.0", Ordering::Greater),
            ("1.0^", "1.0.1", Ordering::Less),
        ] {
            assert_eq!(Scheme::Rpm.compare(one, other), order, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn any_texts_have_an_order(one in ".{0,12}", other in ".{0,12}") {
            for scheme in [Scheme::Deb, Scheme::Rpm] {
                prop_assert_eq!(scheme.compare(&one, &other), scheme.compare(&other, &one).reverse());
                prop_assert_eq!(scheme.compare(&one, &one), Ordering::Equal);
            }
        }
    }
}
