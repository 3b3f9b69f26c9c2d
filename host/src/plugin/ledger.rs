//! What plugins keep beyond a run, on disk.
//!
//! A plugin reads and writes its memory; changes are written behind it, by a
//! thread of their own, in transactions: a host that is killed loses the last
//! moment, never the half of one. Nobody waits for the disk but the end of the
//! run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};

use super::imports::MAX_STATE;

/// The plugin's name and its key → its value.
const TABLE: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("state");
/// The file, in the operator's directory.
const FILE: &str = "state.redb";
/// Longest wait for the disk at the end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Names an entry.
type Key = (String, String);

/// The state of all plugins. Clones share it.
#[derive(Clone)]
pub struct Ledgers {
    database: Arc<Database>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Ledgers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledgers").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    /// To be written; none is to be removed.
    entries: BTreeMap<Key, Option<Vec<u8>>>,
    /// On disk, or on the way there: only those need to be removed.
    written: BTreeSet<Key>,
    /// A transaction is under way.
    busy: bool,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of one plugin.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    plugin: String,
    shared: Arc<Shared>,
}

impl Ledgers {
    /// Those in a directory.
    ///
    /// # Errors
    /// If there is no database, and none can be made.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        let told = |error: &dyn fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
        let database = Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => told(&"another host uses it; give each a directory of its own"),
            error => told(&format!("{error}; remove it to begin anew")),
        })?;
        let written = keys(&database).map_err(|error| told(&error))?;
        let shared =
            Arc::new(Shared { pending: Mutex::new(Pending { written, ..Pending::default() }), ..Shared::default() });
        let database = Arc::new(database);
        let of_thread = (database.clone(), shared.clone());
        thread::Builder::new().name("state".into()).spawn(move || write_behind(&of_thread.0, &of_thread.1))?;
        Ok(Self { database, shared })
    }

    /// A plugin's ledger and what is in it.
    pub(super) fn of(&self, plugin: &str) -> io::Result<(Ledger, BTreeMap<String, Vec<u8>>)> {
        let entries = entries(&self.database, plugin).map_err(io::Error::other)?;
        Ok((Ledger { plugin: plugin.to_owned(), shared: self.shared.clone() }, entries))
    }

    /// Waits until everything is written, but not for ever.
    pub fn flush(&self) {
        let since = Instant::now();
        let mut pending = self.shared.pending();
        while !pending.entries.is_empty() || pending.busy {
            let Some(left) = PATIENCE.checked_sub(since.elapsed()) else {
                tracing::error!("the state of plugins could not be written in time; the last changes are lost");
                return;
            };
            pending = self.shared.changed.wait_timeout(pending, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Ledger {
    /// These entries have these values now, none if they are gone: all of them
    /// are written, or none.
    pub(super) fn note(&self, entries: impl Iterator<Item = (Option<Vec<u8>>, String)>) {
        let mut pending = self.shared.pending();
        for (value, key) in entries {
            let name = (self.plugin.clone(), key);
            if value.is_none() && !pending.written.contains(&name) {
                pending.entries.remove(&name);
            } else {
                pending.entries.insert(name, value);
            }
        }
        self.shared.changed.notify_all();
    }
}

fn write_behind(database: &Database, shared: &Shared) {
    loop {
        let waited = shared.changed.wait_while(shared.pending(), |pending| pending.entries.is_empty());
        let mut pending = waited.unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::take(&mut pending.entries);
        for (key, value) in &batch {
            if value.is_some() {
                pending.written.insert(key.clone())
            } else {
                pending.written.remove(key)
            };
        }
        pending.busy = true;
        drop(pending);
        let written = write(database, &batch);
        let mut pending = shared.pending();
        pending.busy = false;
        if let Err(error) = written {
            tracing::error!(%error, "the state of plugins cannot be written; trying again");
            for (key, value) in batch {
                pending.written.insert(key.clone());
                pending.entries.entry(key).or_insert(value);
            }
            drop(pending);
            thread::sleep(PAUSE);
        }
        shared.changed.notify_all();
    }
}

fn write(database: &Database, batch: &BTreeMap<Key, Option<Vec<u8>>>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for ((plugin, key), value) in batch {
            let name = (plugin.as_str(), key.as_str());
            match value {
                Some(value) => drop(table.insert(name, value.as_slice())?),
                None => drop(table.remove(name)?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn keys(database: &Database) -> Result<BTreeSet<Key>, redb::Error> {
    let mut keys = BTreeSet::new();
    match database.begin_read()?.open_table(TABLE) {
        Ok(table) => {
            for entry in table.iter()? {
                let (key, _) = entry?;
                let (plugin, key) = key.value();
                keys.insert((plugin.to_owned(), key.to_owned()));
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(keys)
}

/// A plugin's entries, as far as it may have them.
fn entries(database: &Database, plugin: &str) -> Result<BTreeMap<String, Vec<u8>>, redb::Error> {
    let mut entries = BTreeMap::new();
    let table = match database.begin_read()?.open_table(TABLE) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(entries),
        Err(error) => return Err(error.into()),
    };
    let mut used = 0;
    for entry in table.range((plugin, "")..)? {
        let (key, value) = entry?;
        let ((owner, key), value) = (key.value(), value.value());
        used += key.len() + value.len();
        if owner != plugin || used > MAX_STATE {
            break;
        }
        entries.insert(key.to_owned(), value.to_vec());
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn note(ledger: &Ledger, key: &str, value: Option<&[u8]>) {
        ledger.note(std::iter::once((value.map(<[u8]>::to_vec), key.to_owned())));
    }

    fn all(ledgers: &Ledgers, plugin: &str) -> Vec<(String, Vec<u8>)> {
        ledgers.of(plugin).unwrap().1.into_iter().collect()
    }

    #[test]
    fn entries_outlive_the_host() {
        let directory = tempfile::tempdir().unwrap();
        let ledgers = Ledgers::open(directory.path()).unwrap();
        let (ledger, found) = ledgers.of("a").unwrap();
        assert!(found.is_empty());
        note(&ledger, "kept", Some(b"1"));
        note(&ledger, "changed", Some(b"1"));
        note(&ledger, "never written", Some(b"1"));
        note(&ledger, "never written", None);
        ledgers.flush();
        note(&ledger, "changed", Some(b"2"));
        note(&ledger, "removed", Some(b"1"));
        ledgers.flush();
        note(&ledger, "removed", None);
        note(&ledgers.of("ab").unwrap().0, "kept", Some(b"of another"));
        ledgers.flush();
        // Locked: one host a directory.
        assert!(Ledgers::open(directory.path()).unwrap_err().to_string().contains("another host uses it"));
        assert_eq!(all(&ledgers, "a"), [("changed".into(), b"2".to_vec()), ("kept".into(), b"1".to_vec())]);
        assert_eq!(all(&ledgers, "ab"), [("kept".into(), b"of another".to_vec())]);
        assert_eq!(all(&ledgers, ""), []);
    }

    #[test]
    fn rubbish_is_told() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), b"rubbish").unwrap();
        let error = Ledgers::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("remove it to begin anew"), "{error}");
    }

    /// What is removed before it was ever written leaves nothing behind.
    #[test]
    fn nothing_piles_up() {
        let directory = tempfile::tempdir().unwrap();
        let ledgers = Ledgers::open(directory.path()).unwrap();
        let (ledger, _) = ledgers.of("a").unwrap();
        for index in 0..100_000 {
            let key = index.to_string();
            note(&ledger, &key, Some(b"x"));
            note(&ledger, &key, None);
        }
        ledgers.flush();
        let pending = ledgers.shared.pending();
        assert!(pending.entries.is_empty() && pending.written.is_empty(), "{pending:?}");
    }
}
