//! What is kept on disk: generations, and the numbers that are never used again.
//!
//! Every file is replaced whole (temporary file, fsync, rename, fsync of the folder), so that the daemon may be killed,
//! and the power fail, between any two system calls: what was acknowledged is there at the next start, what was not is
//! there whole or not at all. Nothing half-written is ever chosen. `layout.rs` tells which file is what.
//!
//! The calls block. Reading costs next to nothing; a call that writes costs a few fsyncs ([`Store::add`] three,
//! [`Store::set_result`] two, [`Store::next_job_id`] two in every 500 calls): about a millisecond on an SSD, some tens
//! on a spinning disk. The store has one owner and no locks inside; a lock file keeps a second daemon out.

mod error;
mod fs;
mod layout;
mod open;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::ErrorKind,
    path::PathBuf,
    sync::Arc,
};

pub use error::StoreError;
pub use layout::{FileContent, Source, sha256_hex};

use self::{
    fs::Fs,
    layout::{Counters, Meta, StateFile},
};
use crate::{model::JobId, reconcile::GenerationInfo};

/// How many generations are kept where the configuration does not say: some months of daily changes.
pub const GENERATIONS_KEPT: usize = 100;

/// How many job numbers are reserved at once, so that a job costs no fsync of its own.
const JOB_BLOCK: u64 = 1000;

/// The next block is reserved when so many numbers are left: a disk that is full for a while stops no job.
const JOB_MARGIN: u64 = JOB_BLOCK / 2;

/// The current generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// What is known of it.
    pub info: GenerationInfo,
    /// The document as it was received.
    pub text: Arc<str>,
    /// A job for it worked through to its end ([`Store::set_result`]), in this boot or an earlier one.
    pub finished: bool,
    /// ... and did so in this boot. If not, op-dbus reconciles at its start.
    pub finished_this_boot: bool,
}

/// The state directory. One owner: a second [`Store::open`] of the same directory is refused while this one lives.
#[derive(Debug)]
pub struct Store {
    fs: Box<dyn Fs>,
    dir: PathBuf,
    /// Closing it gives the directory free. `None` only in tests without a real directory.
    _lock: Option<File>,
    /// This boot; empty = not known, which is like no other boot.
    boot: String,
    /// All complete generations.
    metas: BTreeMap<u64, Meta>,
    /// Those of which the disk may say another thing than `metas`, or not for sure the same: a write or an fsync failed.
    unsure: BTreeSet<u64>,
    current: Option<Generation>,
    /// Higher than every number that was ever given out or lies on the disk.
    next_number: u64,
    keep: usize,
    /// As on the disk.
    counters: Counters,
    next_job: JobId,
    file: Option<FileContent>,
    /// `file` is in its own file; if not, it is written with the next generation.
    file_recorded: bool,
}

impl Store {
    /// The current generation: the newest one. `None` = there is none yet.
    #[must_use]
    pub const fn current(&self) -> Option<&Generation> {
        self.current.as_ref()
    }

    /// All stored generations, the newest last.
    #[must_use]
    pub fn list(&self) -> Vec<GenerationInfo> {
        self.metas.values().map(info).collect()
    }

    /// A generation's document as it was received; 0 = the current one.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], [`StoreError::Damaged`] where the file is not what was stored, [`StoreError::Io`].
    pub fn text(&self, number: u64) -> Result<String, StoreError> {
        match &self.current {
            Some(current) if number == 0 || number == current.info.number => Ok(current.text.to_string()),
            _ => {
                let meta = self.metas.get(&number).ok_or(StoreError::NotFound(number))?;
                self.read_document(meta)?.map_err(|why| StoreError::Damaged { number, why })
            }
        }
    }

    /// Stores a document as the next generation and makes it the current one. When this answers, it is on the disk.
    /// A generation from the state file is also noted as the file's last content.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]: the generation that was current still is, and nothing of the new one is left.
    pub fn add(&mut self, text: &str, source: Source, uid: u32, time_usec: u64) -> Result<u64, StoreError> {
        let number = self.next_number;
        let meta = Meta {
            number,
            time_usec,
            source,
            uid,
            size: text.len() as u64,
            sha256: sha256_hex(text.as_bytes()),
            result: String::new(),
            finished: false,
            finished_boot: String::new(),
        };
        if let Err(error) = self.write_generation(&meta, text) {
            if !self.withdraw(number) {
                // Something of it may still lie there: its number must not get a second meaning.
                self.next_number += 1;
            }
            return Err(error);
        }
        self.next_number += 1;
        self.current = Some(self.generation(&meta, text.into()));
        if source == Source::File {
            self.file = Some(FileContent { sha256: meta.sha256.clone(), refused: false });
            self.file_recorded = false;
        }
        self.metas.insert(number, meta);
        if !self.file_recorded
            && let Err(error) = self.record_file()
        {
            // The generation itself tells it at the next start, and is kept until the next one has noted it.
            tracing::warn!("the state file's last content is not noted: {error}");
        }
        self.prune();
        Ok(number)
    }

    /// Notes how the last job of a generation ended; `finished` = it worked through to its end, so that a restart in
    /// this boot need not take it up again. Writes nothing where nothing changes.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] where it was pruned meanwhile, [`StoreError::Io`].
    pub fn set_result(&mut self, number: u64, result: &str, finished: bool) -> Result<(), StoreError> {
        let old = self.metas.get(&number).ok_or(StoreError::NotFound(number))?;
        let boot = if finished { self.boot.clone() } else { String::new() };
        let meta = Meta { result: result.to_owned(), finished, finished_boot: boot, ..old.clone() };
        if meta == *old && !self.unsure.contains(&number) {
            return Ok(());
        }
        let folder = self.generations();
        self.unsure.insert(number);
        layout::put_json(&*self.fs, &folder, &layout::meta(number), &meta)?;
        self.fs.sync_dir(&folder).map_err(StoreError::io("sync", folder))?;
        self.unsure.remove(&number);
        if let Some(text) = self.current.as_ref().filter(|current| current.info.number == number) {
            self.current = Some(self.generation(&meta, Arc::clone(&text.text)));
        }
        self.metas.insert(number, meta);
        Ok(())
    }

    /// The number that [`Store::next_job_id`] gives next, if it can.
    #[must_use]
    pub const fn next_job(&self) -> JobId {
        self.next_job
    }

    /// The number for the next job: higher than any before, also before a restart.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] where no number is left that is reserved on the disk: after 500 jobs on a full disk.
    pub fn next_job_id(&mut self) -> Result<JobId, StoreError> {
        if self.counters.job_ceiling.saturating_sub(self.next_job) <= JOB_MARGIN {
            let counters = Counters { job_ceiling: self.next_job.saturating_add(JOB_BLOCK), ..self.counters.clone() };
            if let Err(error) = self.write_counters(counters) {
                if self.next_job >= self.counters.job_ceiling {
                    return Err(error);
                }
                tracing::warn!("no job numbers can be reserved; the rest of the reserve is used: {error}");
            }
        }
        let id = self.next_job;
        self.next_job = self.next_job.saturating_add(1);
        Ok(id)
    }

    /// What the state file last held, as far as it was dealt with; `None` = never seen.
    #[must_use]
    pub const fn file_content(&self) -> Option<&FileContent> {
        self.file.as_ref()
    }

    /// Notes what the state file holds where that is no new generation: it was refused, or means the same as the
    /// current one. (A new one is noted by [`Store::add`].) Writes nothing where nothing changes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]: after a restart the file may count as changed once more.
    pub fn set_file_content(&mut self, content: FileContent) -> Result<(), StoreError> {
        if self.file_recorded && self.file.as_ref() == Some(&content) {
            return Ok(());
        }
        self.file = Some(content);
        self.file_recorded = false;
        self.record_file()
    }

    /// Keeps so many generations from the next [`Store::add`] on; at least the current one.
    pub fn keep(&mut self, generations: usize) {
        self.keep = generations.max(1);
    }

    /// Gives the reserved job numbers back that were not used, and frees the directory. Without it (after a crash) they
    /// are skipped.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]: they are skipped.
    pub fn close(mut self) -> Result<(), StoreError> {
        if self.next_job >= self.counters.job_ceiling {
            return Ok(());
        }
        self.write_counters(Counters { job_ceiling: self.next_job, ..self.counters.clone() })
    }

    fn generations(&self) -> PathBuf {
        self.dir.join(layout::GENERATIONS)
    }

    fn generation(&self, meta: &Meta, text: Arc<str>) -> Generation {
        Generation {
            info: info(meta),
            text,
            finished: meta.finished,
            finished_this_boot: meta.finished && !self.boot.is_empty() && meta.finished_boot == self.boot,
        }
    }

    /// The document first, then what is known of it: the second rename is what makes the generation. One fsync of the
    /// folder does for both names: should the power fail before it, the call has not answered yet, and a generation
    /// without a document is not chosen.
    fn write_generation(&self, meta: &Meta, text: &str) -> Result<(), StoreError> {
        let folder = self.generations();
        layout::put(&*self.fs, &folder, &layout::document(meta.number), text.as_bytes())?;
        layout::put_json(&*self.fs, &folder, &layout::meta(meta.number), meta)?;
        self.fs.sync_dir(&folder).map_err(StoreError::io("sync", folder))
    }

    /// Takes back what [`Store::write_generation`] began; whether nothing of it is left for sure.
    fn withdraw(&self, number: u64) -> bool {
        let folder = self.generations();
        let gone = |name: String| match self.fs.remove(&folder.join(name)) {
            Ok(()) => self.fs.sync_dir(&folder).is_ok(),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        // In this order: without the first the second is not chosen.
        let meta_gone = gone(layout::meta(number));
        gone(layout::document(number)) && meta_gone
    }

    /// The document of a generation, or why it is not what was stored.
    fn read_document(&self, meta: &Meta) -> Result<Result<String, String>, StoreError> {
        let path = self.generations().join(layout::document(meta.number));
        let bytes = match self.fs.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Err("its document is missing".to_owned()));
            }
            Err(error) => return Err(StoreError::io("read", path)(error)),
        };
        if sha256_hex(&bytes) != meta.sha256 {
            return Ok(Err("its document is not the one that was stored (SHA-256 differs)".to_owned()));
        }
        Ok(String::from_utf8(bytes).map_err(|_| "its document is not UTF-8".to_owned()))
    }

    fn write_counters(&mut self, counters: Counters) -> Result<(), StoreError> {
        layout::put_json(&*self.fs, &self.dir, layout::COUNTERS, &counters)?;
        self.fs.sync_dir(&self.dir).map_err(StoreError::io("sync", &self.dir))?;
        self.counters = counters;
        Ok(())
    }

    fn record_file(&mut self) -> Result<(), StoreError> {
        let Some(content) = &self.file else { return Ok(()) };
        let as_of = self.metas.last_key_value().map_or(0, |(number, _)| *number);
        let body = StateFile { as_of, content: content.clone() };
        layout::put_json(&*self.fs, &self.dir, layout::STATE_FILE, &body)?;
        self.fs.sync_dir(&self.dir).map_err(StoreError::io("sync", &self.dir))?;
        self.file_recorded = true;
        Ok(())
    }

    /// Removes the oldest generations beyond the number kept. What cannot be removed stays until the next time; so do all
    /// while one of them may be the only one that tells what the state file last held.
    fn prune(&mut self) {
        if !self.file_recorded {
            return;
        }
        let folder = self.generations();
        while self.metas.len() > self.keep {
            let Some((&oldest, _)) = self.metas.first_key_value() else { return };
            // In this order: a document alone, below the oldest generation, is removed at the next start.
            for name in [layout::meta(oldest), layout::document(oldest)] {
                match self.fs.remove(&folder.join(name)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        tracing::warn!(generation = oldest, "an old generation cannot be removed: {error}");
                        return;
                    }
                    _ => {}
                }
            }
            self.metas.remove(&oldest);
            self.unsure.remove(&oldest);
        }
    }
}

fn info(meta: &Meta) -> GenerationInfo {
    GenerationInfo {
        number: meta.number,
        time_usec: meta.time_usec,
        source: meta.source.as_str(),
        uid: meta.uid,
        sha256: meta.sha256.clone(),
        result: meta.result.clone(),
    }
}
