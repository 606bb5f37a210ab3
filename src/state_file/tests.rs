#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::{
    MAX_BYTES,
    StateFileEvent::{self, Content, Missing, Unreadable},
    watch,
    watcher::Watcher,
};

/// A folder to play in, and a watcher of one path in it. The kernel queues an event within the system call that causes
/// it, so that after any change all its events are there: nothing has to be waited for.
struct Scene {
    folder: TempDir,
    watcher: Watcher,
}

impl Scene {
    /// Watches `path` of a folder that `set` has prepared.
    fn new(path: &str, set: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        set(folder.path());
        let watcher = Watcher::new(folder.path().join(path)).unwrap();
        Self { folder, watcher }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Makes a link in place of another one, as `ln -sfn` with a rename does.
    fn relink(&self, target: impl AsRef<Path>, link: &str) {
        symlink(target, self.path("new-link")).unwrap();
        self.rename("new-link", link);
    }

    /// All news.
    fn news(&mut self) -> Vec<StateFileEvent> {
        let mut news = Vec::new();
        self.watcher.drain().unwrap();
        while self.watcher.is_stale() {
            news.extend(self.watcher.look(false).unwrap());
        }
        news
    }

    /// The only news.
    #[track_caller]
    fn only(&mut self) -> StateFileEvent {
        let mut news = self.news();
        assert_eq!(news.len(), 1, "{news:?}");
        news.remove(0)
    }

    #[track_caller]
    fn no_news(&mut self) {
        assert_eq!(self.news(), []);
    }
}

fn content(text: &str) -> StateFileEvent {
    Content(text.as_bytes().to_vec())
}

#[track_caller]
fn why(event: &StateFileEvent) -> &str {
    let Unreadable(why) = event else { panic!("{event:?}") };
    why
}

#[tokio::test]
async fn says_what_is_there_at_the_start() {
    let mut scene = Scene::new("state.json", |path| fs::write(path.join("state.json"), [0xff, 0]).unwrap());
    assert_eq!(scene.only(), Content(vec![0xff, 0]));
    scene.no_news();
    let mut scene = Scene::new("state.json", |path| fs::write(path.join("state.json"), "").unwrap());
    assert_eq!(scene.only(), content(""));
    let mut scene = Scene::new("state.json", |_| {});
    assert_eq!(scene.only(), Missing);
}

#[tokio::test]
async fn a_file_comes_with_all_its_folders() {
    let mut scene = Scene::new("a/b/c/state.json", |_| {});
    assert_eq!(scene.only(), Missing);
    for folder in ["a", "a/b", "a/b/c"] {
        fs::create_dir(scene.path(folder)).unwrap();
        scene.no_news();
    }
    scene.write("a/b/c/state.json", "1");
    assert_eq!(scene.only(), content("1"));
    fs::remove_dir_all(scene.path("a")).unwrap();
    assert_eq!(scene.only(), Missing);
    // All at once: the watches are set while the folders are there already.
    fs::create_dir_all(scene.path("a/b/c")).unwrap();
    scene.write("a/b/c/state.json", "2");
    assert_eq!(scene.only(), content("2"));
    scene.write("a/b/c/state.json", "3");
    assert_eq!(scene.only(), content("3"));
}

#[tokio::test]
async fn what_is_written_in_place_is_read_once_it_is_closed() {
    let mut scene = Scene::new("state.json", |path| fs::write(path.join("state.json"), "old").unwrap());
    scene.only();
    let mut file = File::create(scene.path("state.json")).unwrap();
    scene.no_news();
    file.write_all(b"ha").unwrap();
    scene.no_news();
    // Something else that makes it look again.
    fs::set_permissions(scene.path("state.json"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    scene.no_news();
    file.write_all(b"lf").unwrap();
    drop(file);
    assert_eq!(scene.only(), content("half"));
}

#[tokio::test]
async fn a_new_file_is_read_once_it_is_closed() {
    let mut scene = Scene::new("state.json", |_| {});
    scene.only();
    let mut file = File::create(scene.path("state.json")).unwrap();
    assert_eq!(scene.news(), [], "new and empty");
    file.write_all(b"ha").unwrap();
    scene.no_news();
    file.write_all(b"lf").unwrap();
    drop(file);
    assert_eq!(scene.only(), content("half"));
    // ... also where it stays empty.
    fs::remove_file(scene.path("state.json")).unwrap();
    scene.write("state.json", "");
    assert_eq!(scene.news(), [content("")]);
}

#[tokio::test]
async fn a_new_file_that_was_written_before_it_was_looked_at() {
    let mut scene = Scene::new("state.json", |_| {});
    scene.only();
    let mut file = File::create(scene.path("state.json")).unwrap();
    file.write_all(b"ha").unwrap();
    scene.no_news();
    drop(file);
    assert_eq!(scene.only(), content("ha"));
}

#[tokio::test]
async fn what_was_read_while_it_was_written_does_not_count() {
    let mut scene = Scene::new("state.json", |path| fs::write(path.join("state.json"), "old").unwrap());
    scene.only();
    let seen = scene.watcher.see(false);
    assert_eq!(seen, Some(content("old")));
    // Within one look: opened, written and closed.
    scene.write("state.json", "new");
    assert_eq!(scene.watcher.judge(Some(content("half")), false).unwrap(), None);
    assert_eq!(scene.only(), content("new"));
}

#[tokio::test]
async fn the_first_look_has_an_answer_also_where_a_writer_never_ends() {
    let mut scene = Scene::new("state.json", |path| fs::write(path.join("state.json"), "old").unwrap());
    let mut file = File::options().write(true).open(scene.path("state.json")).unwrap();
    scene.watcher.look(false).unwrap();
    let mut late = Watcher::new(scene.path("state.json")).unwrap();
    let seen = late.see(false);
    file.write_all(b"ha").unwrap();
    // (A watcher begins stale; this one has begun to look.)
    let news = late.judge(seen, false).unwrap().or_else(|| late.look(false).unwrap());
    assert!(why(&news.unwrap()).ends_with("state.json is being written"));
    assert_eq!(late.look(true).unwrap(), Some(content("had")), "whoever asks for it gets it as it is");
    drop(file);
    late.drain().unwrap();
    assert_eq!(late.look(false).unwrap(), None);
}

#[tokio::test]
async fn a_rename_into_place_is_whole_at_once() {
    let mut scene = Scene::new("state.json", |path| fs::write(path.join("state.json"), "old").unwrap());
    scene.only();
    // A writer of the file that loses its name, as an editor with a backup leaves it.
    let mut writer = File::options().write(true).open(scene.path("state.json")).unwrap();
    writer.write_all(b"x").unwrap();
    scene.no_news();
    scene.write("new", "new");
    scene.rename("new", "state.json");
    assert_eq!(scene.only(), content("new"));
    writer.write_all(b"y").unwrap();
    scene.write("newer", "newer");
    scene.rename("newer", "state.json");
    writer.write_all(b"z").unwrap();
    assert_eq!(scene.only(), content("newer"));
    drop(writer);
    scene.no_news();
}

#[tokio::test]
async fn a_link_to_a_finished_file_is_whole_at_once() {
    let mut scene = Scene::new("state.json", |path| fs::write(path.join("other"), "text").unwrap());
    scene.only();
    fs::hard_link(scene.path("other"), scene.path("state.json")).unwrap();
    assert_eq!(scene.only(), content("text"));
    // Written through its other name, in another folder.
    fs::create_dir(scene.path("far")).unwrap();
    scene.rename("other", "far/other");
    scene.news();
    let mut file = File::create(scene.path("far/other")).unwrap();
    file.write_all(b"mo").unwrap();
    scene.no_news();
    // Something else that makes it look again.
    fs::set_permissions(scene.path("state.json"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    scene.no_news();
    file.write_all(b"re").unwrap();
    drop(file);
    assert_eq!(scene.only(), content("more"));
}

/// Linking an O_TMPFILE file is how a whole new file comes up without a rename.
#[tokio::test]
async fn an_unnamed_file_gets_its_name() {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
    let mut scene = Scene::new("state.json", |_| {});
    scene.only();
    let file = match open(scene.folder.path(), OFlags::WRONLY | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file,
        Err(error) => return println!("skipped: no unnamed files on this file system ({error})"),
    };
    rustix::io::write(&file, b"text").unwrap();
    let unnamed = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    linkat(CWD, unnamed, CWD, scene.path("state.json"), AtFlags::SYMLINK_FOLLOW).unwrap();
    drop(file);
    assert_eq!(scene.only(), content("text"));
}

/// NixOS: /etc/op-dbus/state.json -> /etc/static/op-dbus/state.json, /etc/static -> /nix/store/HASH-etc/etc, and in there
/// a link into the store again.
#[tokio::test]
async fn a_swapped_link_in_the_middle() {
    let mut scene = Scene::new("etc/op-dbus/state.json", |path| {
        fs::create_dir_all(path.join("etc/op-dbus")).unwrap();
        for (hash, text) in [("1", "one"), ("2", "two")] {
            let etc = path.join(format!("store/{hash}-etc/etc/op-dbus"));
            fs::create_dir_all(&etc).unwrap();
            let file = path.join(format!("store/{hash}-state.json"));
            fs::write(&file, text).unwrap();
            symlink(file, etc.join("state.json")).unwrap();
        }
        symlink(path.join("store/1-etc/etc"), path.join("etc/static")).unwrap();
        symlink(path.join("etc/static/op-dbus/state.json"), path.join("etc/op-dbus/state.json")).unwrap();
    });
    assert_eq!(scene.only(), content("one"));
    scene.relink(scene.path("store/2-etc/etc"), "etc/static");
    assert_eq!(scene.only(), content("two"));
    scene.relink("../store/1-etc/etc", "etc/static");
    assert_eq!(scene.only(), content("one"));
    // The old generation's are not watched any more, the new one's are.
    scene.write("store/2-state.json", "2");
    scene.no_news();
    scene.write("store/1-state.json", "1");
    assert_eq!(scene.only(), content("1"));
    // Removed first, as some do.
    fs::remove_file(scene.path("etc/static")).unwrap();
    assert_eq!(scene.only(), Missing);
    symlink(scene.path("store/2-etc/etc"), scene.path("etc/static")).unwrap();
    assert_eq!(scene.only(), content("2"));
    // The last link becomes a file.
    scene.write("new", "local");
    scene.rename("new", "etc/op-dbus/state.json");
    assert_eq!(scene.only(), content("local"));
}

#[tokio::test]
async fn a_link_to_what_comes_later() {
    let mut scene =
        Scene::new("state.json", |path| symlink("later/on/../state.json", path.join("state.json")).unwrap());
    assert_eq!(scene.only(), Missing);
    fs::create_dir_all(scene.path("later/on")).unwrap();
    scene.no_news();
    scene.write("later/state.json", "1");
    assert_eq!(scene.only(), content("1"));
    fs::remove_dir(scene.path("later/on")).unwrap();
    assert_eq!(scene.only(), Missing);
}

#[tokio::test]
async fn a_loop_of_links_ends() {
    let mut scene = Scene::new("state.json", |path| {
        symlink("there", path.join("state.json")).unwrap();
        symlink("state.json", path.join("there")).unwrap();
    });
    assert!(why(&scene.only()).contains("loop"));
    scene.write("text", "text");
    scene.relink("text", "there");
    assert_eq!(scene.only(), content("text"));
}

#[tokio::test]
async fn folders_are_moved_away_and_back() {
    let mut scene = Scene::new("a/b/state.json", |path| {
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/b/state.json"), "text").unwrap();
    });
    scene.only();
    scene.rename("a", "z");
    assert_eq!(scene.only(), Missing);
    scene.write("z/b/state.json", "away");
    scene.no_news();
    scene.rename("z", "a");
    assert_eq!(scene.only(), content("away"));
}

#[tokio::test]
async fn what_is_no_file_is_unreadable() {
    let mut scene = Scene::new("a/state.json", |path| fs::create_dir_all(path.join("a/state.json")).unwrap());
    assert!(why(&scene.only()).ends_with("a/state.json is a folder, not a file"));
    fs::remove_dir(scene.path("a/state.json")).unwrap();
    assert_eq!(scene.only(), Missing);
    // Nobody is at a pipe's other end: whoever opens it for reading must not wait for him.
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, scene.path("a/state.json"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(why(&scene.only()).ends_with("a/state.json is not a regular file"));
    fs::remove_dir_all(scene.path("a")).unwrap();
    scene.write("a", "");
    let news = scene.news();
    assert!(why(news.last().unwrap()).ends_with("/a is not a folder"), "{news:?}");
}

#[tokio::test]
async fn what_is_too_large_is_not_read() {
    let mut scene = Scene::new("state.json", |path| fs::write(path.join("state.json"), "1").unwrap());
    scene.only();
    File::options().write(true).open(scene.path("state.json")).unwrap().set_len(1 << 40).unwrap();
    assert!(why(&scene.only()).ends_with("is larger than 4 MiB"));
    let file = File::options().write(true).open(scene.path("state.json")).unwrap();
    file.set_len(MAX_BYTES + 1).unwrap();
    drop(file);
    scene.no_news();
    File::options().write(true).open(scene.path("state.json")).unwrap().set_len(MAX_BYTES).unwrap();
    let Content(bytes) = scene.only() else { panic!("4 MiB are not too much") };
    assert_eq!(bytes.len() as u64, MAX_BYTES);
}

#[tokio::test]
async fn a_burst_is_one_piece_of_news() {
    let mut scene = Scene::new("state.json", |_| {});
    scene.only();
    for round in 0..100 {
        scene.write("new", &format!("{round}"));
        scene.rename("new", "state.json");
    }
    assert_eq!(scene.only(), content("99"));
}

#[tokio::test]
async fn more_events_than_the_queue_holds() {
    let mut scene = Scene::new("state.json", |_| {});
    scene.only();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 100_000 {
        return println!("skipped: the queue holds {limit} events");
    }
    // Two events in turn: the kernel merges equal neighbours.
    for _ in 0..=limit / 2 {
        fs::create_dir(scene.path("noise")).unwrap();
        fs::remove_dir(scene.path("noise")).unwrap();
    }
    // The events of this one find no place.
    scene.write("state.json", "end");
    assert_eq!(scene.only(), content("end"));
}

#[tokio::test]
async fn the_same_again_is_no_news() {
    let mut scene = Scene::new("state.json", |path| fs::write(path.join("state.json"), "1").unwrap());
    scene.only();
    scene.write("state.json", "1");
    scene.no_news();
    scene.write("new", "1");
    scene.rename("new", "state.json");
    scene.no_news();
    fs::remove_file(scene.path("state.json")).unwrap();
    assert_eq!(scene.only(), Missing);
    scene.write("state.json", "1");
    assert_eq!(scene.only(), content("1"));
}

#[tokio::test]
async fn the_task_tells_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("op-dbus/state.json");
    let (events, mut told) = mpsc::unbounded_channel();
    let handle = watch(&path, events).unwrap();
    assert_eq!(told.recv().await, Some(Missing));
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "1").unwrap();
    assert_eq!(told.recv().await, Some(content("1")));
    for round in 2..10 {
        fs::write(folder.path().join("new"), format!("{round}")).unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(told.recv().await, Some(content(&format!("{round}"))));
    }
    handle.reread().await;
    assert_eq!(told.try_recv(), Err(TryRecvError::Empty), "nothing is different");
    // What no event tells of (here: an open writer) is read when asked for.
    let mut writer = File::options().write(true).open(&path).unwrap();
    writer.write_all(b"xyz").unwrap();
    handle.reread().await;
    assert_eq!(told.try_recv(), Ok(content("xyz")));

    drop(handle);
    assert_eq!(told.recv().await, None, "the task has ended");
}

#[tokio::test]
async fn the_task_ends_with_its_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let (events, told) = mpsc::unbounded_channel();
    let handle = watch(&folder.path().join("state.json"), events.clone()).unwrap();
    drop(told);
    events.closed().await;
    // Answers, since there is nobody who could.
    handle.reread().await;
    while !handle.rereads.is_closed() {
        tokio::task::yield_now().await;
    }
}
