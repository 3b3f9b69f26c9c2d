//! The `--expect` file: reading it, comparing, writing it anew.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use super::Report;
use crate::recording::golden::{Golden, TraceVerdicts};

/// What `--bless` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blessed {
    /// The file is new or has changed.
    Written,
    /// It says what it said before.
    Unchanged,
}

pub(super) fn read(path: &Path) -> anyhow::Result<Golden> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let hint = if error.kind() == io::ErrorKind::NotFound { "; --bless would write it" } else { "" };
        anyhow::anyhow!("--expect: cannot read {}: {error}{hint}", path.display())
    })?;
    Golden::parse(&text).with_context(|| format!("--expect: {}", path.display()))
}

/// Writes the file in one step: whoever reads it sees the old or the new one.
pub(super) fn bless(path: &Path, golden: &Golden) -> anyhow::Result<Blessed> {
    let text = golden.to_string();
    if std::fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(Blessed::Unchanged);
    }
    // A link stays a link: what it leads to is replaced.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> io::Result<()> {
        // As any file that a person makes: the umask decides.
        let mut file = tempfile::Builder::new()
            .prefix(".golden-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("--bless: cannot write {}", path.display()))?;
    Ok(Blessed::Written)
}

impl Report<'_> {
    /// The verdicts as a golden file has them.
    pub(super) fn golden(&self) -> Golden {
        let traces = self.traces.iter().map(|trace| TraceVerdicts {
            trace: trace.name.clone(),
            verdicts: trace.verdicts.iter().map(|shown| shown.verdict.clone()).collect(),
            line: 0,
        });
        Golden { plugin: self.plugin.clone(), traces: traces.collect() }
    }

    /// Puts each difference to its trace.
    pub(super) fn compare(&mut self, expected: &Golden) {
        for difference in Golden::compare(expected, &self.golden()) {
            match self.traces.iter_mut().find(|trace| trace.name == difference.trace) {
                // What could not be read is reported as that.
                Some(trace) if trace.error.is_some() => {}
                Some(trace) => trace.differences.push(difference),
                None => self.general.push(difference),
            }
        }
    }

    /// What a difference is measured against, for people.
    pub(super) fn expected_file(&self) -> String {
        self.expect.map_or_else(|| "recorded".to_owned(), |path| path.display().to_string())
    }
}
