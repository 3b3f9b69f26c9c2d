//! Measurements that are one number a round: start-up, memory, replay.

use super::samples::Samples;

/// One of them.
#[derive(Debug)]
pub(crate) struct Figure {
    /// By which the targets refer to it.
    pub(crate) key: &'static str,
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) samples: Samples,
    /// Why a round, the last that did, failed.
    pub(crate) failure: Option<String>,
}

impl Figure {
    pub(crate) fn new(key: &'static str, title: &str, unit: &'static str) -> Self {
        Self { key, title: title.into(), unit, samples: Samples::default(), failure: None }
    }

    /// Takes one sample.
    pub(crate) fn measure(&mut self, sample: impl FnOnce() -> anyhow::Result<f64>) {
        match sample() {
            Ok(sample) => self.samples.push(sample),
            Err(error) => {
                self.samples.push_failure();
                self.failure = Some(format!("{error:#}"));
            }
        }
    }
}
