//! README.md leads to every page, and fits on one screen with what stands around it.

use std::path::Path;

use op_dbus_testkit::markdown;

/// Lines of a tall screen.
const SCREEN: usize = 120;

#[test]
fn it_leads_to_every_page() {
    let readme = markdown::read("README.md");
    for file in markdown::documents().iter().filter(|file| *file != Path::new("README.md")) {
        assert!(readme.contains(&format!("]({})", file.display())), "README.md does not lead to {}", file.display());
    }
    let lines = readme.lines().count();
    assert!(lines <= SCREEN, "README.md has {lines} lines: move what is not for everybody into docs/");
}
