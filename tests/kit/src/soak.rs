//! How often a property is tried.

use std::env;

/// How many cases a property is tried with: as many as are said, times `OPDBUS_SOAK` where that is set (`tests/soak`).
///
/// Few are tried by default, so that the tests take a minute. What one case in ten thousand meets takes more of them.
pub fn cases(cases: u32) -> u32 {
    let times = env::var("OPDBUS_SOAK").map_or(1, |times| times.parse().expect("OPDBUS_SOAK is a whole number"));
    cases.saturating_mul(times)
}
