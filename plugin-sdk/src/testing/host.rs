//! What stands in for the host's `log`, `state` and `metrics` natively. One
//! of each a thread: tests that run side by side do not meet.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::log::Level;
use crate::state::StateError;

#[derive(Default)]
struct Host {
    log: Vec<(Level, String)>,
    state: BTreeMap<String, Vec<u8>>,
    metrics: BTreeMap<String, f64>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

pub(crate) fn log(level: Level, message: &str) {
    HOST.with_borrow_mut(|host| host.log.push((level, message.to_owned())));
}

pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
    HOST.with_borrow(|host| host.state.get(key).cloned())
}

pub(crate) fn set(key: &str, value: &[u8]) -> Result<(), StateError> {
    if key.len() > 256 || value.len() > 64 << 10 {
        return Err(StateError::TooLarge);
    }
    HOST.with_borrow_mut(|host| {
        let others = host.state.iter().filter(|(other, _)| *other != key);
        let used: usize = others.map(|(key, value)| key.len() + value.len()).sum();
        if used + key.len() + value.len() > 1 << 20 {
            return Err(StateError::Full);
        }
        host.state.insert(key.to_owned(), value.to_owned());
        Ok(())
    })
}

pub(crate) fn delete(key: &str) -> bool {
    HOST.with_borrow_mut(|host| host.state.remove(key).is_some())
}

pub(crate) fn keys(prefix: &str) -> Vec<String> {
    HOST.with_borrow(|host| host.state.keys().filter(|key| key.starts_with(prefix)).take(1000).cloned().collect())
}

#[allow(clippy::cast_precision_loss, reason = "a test counts to less than 2^52")]
pub(crate) fn add(name: &str, amount: u64) {
    HOST.with_borrow_mut(|host| *host.metrics.entry(name.to_owned()).or_default() += amount as f64);
}

pub(crate) fn gauge(name: &str, value: f64) {
    HOST.with_borrow_mut(|host| host.metrics.insert(name.to_owned(), value));
}

/// What the plugin logged on this thread, oldest first.
pub fn logged() -> Vec<(Level, String)> {
    HOST.with_borrow(|host| host.log.clone())
}

/// A counter or gauge that the plugin set on this thread.
pub fn metric(name: &str) -> Option<f64> {
    HOST.with_borrow(|host| host.metrics.get(name).copied())
}

/// Empties log, state and metrics of this thread.
pub fn reset() {
    HOST.take();
}
