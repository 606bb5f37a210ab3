//! How the host side of a container's network is named where systemd-nspawn makes it.

/// What a name of a network device may hold: `IFNAMSIZ` without the terminating zero.
const LONGEST: usize = 15;

/// What stays of a longer name, before the four letters of its digest.
const KEPT: usize = 11;

/// The digest's key, as systemd has it (`SHORTEN_IFNAME_HASH_KEY` in nspawn-network.c), as two little-endian numbers.
const KEY: [u64; 2] = [0x514b_efa8_04a4_90e1, 0xa2fc_119f_3ac3_cc8c];

/// The letters of a digest: base64 as it stands in URLs, six bits each.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The host side of the network of that number (from 0) of a container that systemd-nspawn runs: `ve-ID` for the first,
/// as systemd-nspawn itself names it, `ve1-ID` for the next. What is too long for a device is shortened as
/// systemd-nspawn shortens it (since naming scheme v249): its beginning, and four letters of its digest.
#[must_use]
pub fn machine_link(id: &str, number: usize) -> String {
    shortened(if number == 0 { format!("ve-{id}") } else { format!("ve{number}-{id}") })
}

fn shortened(name: String) -> String {
    if name.len() <= LONGEST {
        return name;
    }
    let digest = siphash24(name.as_bytes());
    let kept: Vec<u8> = name.bytes().take(KEPT).collect();
    // A name of more than one byte a letter may be cut within one; systemd has no such names.
    let mut out = String::from_utf8_lossy(&kept).into_owned();
    for shift in [18_u32, 12, 6, 0] {
        let at = usize::try_from((digest >> shift) & 63).unwrap_or(0);
        out.push(LETTERS.get(at).map_or('_', |letter| char::from(*letter)));
    }
    out
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) with [`KEY`]. The standard library's is another: SipHash-1-3.
fn siphash24(data: &[u8]) -> u64 {
    let [low, high] = KEY;
    let mut state = [
        low ^ 0x736f_6d65_7073_6575,
        high ^ 0x646f_7261_6e64_6f6d,
        low ^ 0x6c79_6765_6e65_7261,
        high ^ 0x7465_6462_7974_6573,
    ];
    let length = u64::try_from(data.len()).unwrap_or(u64::MAX) << 56;
    let (words, rest) = data.as_chunks::<8>();
    for word in words {
        take(&mut state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (into, byte) in last.iter_mut().zip(rest) {
        *into = *byte;
    }
    take(&mut state, length | u64::from_le_bytes(last));
    let [_, _, third, _] = &mut state;
    *third ^= 0xff;
    for _ in 0..4 {
        round(&mut state);
    }
    state.into_iter().fold(0, |all, word| all ^ word)
}

fn take(state: &mut [u64; 4], word: u64) {
    let [_, _, _, fourth] = state;
    *fourth ^= word;
    round(state);
    round(state);
    let [first, ..] = state;
    *first ^= word;
}

fn round(state: &mut [u64; 4]) {
    let [mut first, mut second, mut third, mut fourth] = *state;
    first = first.wrapping_add(second);
    second = second.rotate_left(13) ^ first;
    first = first.rotate_left(32);
    third = third.wrapping_add(fourth);
    fourth = fourth.rotate_left(16) ^ third;
    first = first.wrapping_add(fourth);
    fourth = fourth.rotate_left(21) ^ first;
    third = third.wrapping_add(second);
    second = second.rotate_left(17) ^ third;
    third = third.rotate_left(32);
    *state = [first, second, third, fourth];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_systemd_nspawn_gives() {
        assert_eq!(machine_link("web", 0), "ve-web");
        assert_eq!(machine_link("web", 1), "ve1-web");
        assert_eq!(machine_link("abcdefghijkl", 0), "ve-abcdefghijkl");
        // Seen of systemd-nspawn 252.
        assert_eq!(machine_link("a-rather-long-name", 0), "ve-a-ratherOg1k");
    }
}
