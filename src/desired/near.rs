//! The name somebody may have meant.

/// Letters of a name that are compared: no name of ours is longer.
const MAX_LETTERS: usize = 40;

/// The nearest of the names, where one is near enough to be meant: at most a third of its letters wrong.
pub(super) fn nearest<'n>(given: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if given.len() > MAX_LETTERS {
        return None;
    }
    let given: Vec<u8> = given.bytes().map(plain).collect();
    let distances = names.into_iter().map(|name| (distance(&given, name), name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance * 3 <= name.len().max(3)).then_some(name)
}

/// Case and the kind of hyphen are the smallest of mistakes.
const fn plain(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }
}

/// Letters to insert, delete, replace or swap with their neighbour, to come from one to the other.
fn distance(given: &[u8], name: &str) -> usize {
    let name: Vec<u8> = name.bytes().map(plain).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=name.len()).collect();
    let mut given_before = None;
    for (row, &letter) in given.iter().enumerate() {
        let mut this = vec![row + 1];
        let mut name_before = None;
        for (column, &wanted) in name.iter().enumerate() {
            let cell = |cells: &[usize], at: usize| cells.get(at).copied().unwrap_or(usize::MAX - 1);
            let mut best = cell(&last, column) + usize::from(letter != wanted);
            best = best.min(cell(&last, column + 1) + 1).min(cell(&this, column) + 1);
            if column > 0 && given_before == Some(wanted) && name_before == Some(letter) {
                best = best.min(cell(&before_last, column - 1) + 1);
            }
            this.push(best);
            name_before = Some(wanted);
        }
        before_last = std::mem::replace(&mut last, this);
        given_before = Some(letter);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_mistakes() {
        for (given, name, mistakes) in
            [("", "tag", 3), ("tag", "tag", 0), ("tga", "tag", 1), ("Trunk", "trunks", 1), ("abc", "", 3)]
        {
            assert_eq!(distance(&given.bytes().map(plain).collect::<Vec<_>>(), name), mistakes, "{given} {name}");
        }
    }

    #[test]
    fn names_the_near_and_not_the_far() {
        let names = ["enabled", "masked", "active_state", "properties", "after", "drift"];
        for (given, near) in [
            ("enable", Some("enabled")),
            ("activestate", Some("active_state")),
            ("Active-State", Some("active_state")),
            ("mask", Some("masked")),
            ("aftre", Some("after")),
            ("hostname", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, names), near, "{given}");
        }
        assert_eq!(nearest(&"a".repeat(1_000_000), names), None);
    }
}
