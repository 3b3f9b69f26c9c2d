//! Waits for tasks' reports, at a cost that does not grow with their number.
//!
//! `wait4(-1)` walks the list of all tracees, once to see that there is
//! nothing and once more to find who woke it: 15 to 40 ns a task, so that with
//! a thousand a stop costs three times as much, with four thousand twenty times
//! (measured). It also begins with the newest task: while that one stops often,
//! older ones stand still. With few tasks nothing is cheaper. With many, the
//! kernel's SIGCHLD says who has something to report, and wait4 for one id is
//! a look-up (since Linux 5.13; before, it walks too, and nothing is gained).
//!
//! # No report is lost
//!
//! A SIGCHLD is dropped while another one is pending: signals tell of some
//! reports, not of all. The others are found by *scans*, `wait4(-1, WNOHANG)`
//! until it has nothing more, which ends because nobody is resumed meanwhile.
//!
//! 1. The kernel makes a report before it sends the signal (`ptrace_stop`,
//!    `exit_notify`). A scan misses only reports made after it began, so their
//!    signals are sent after it began.
//! 2. Such a signal is queued, or dropped because another one is pending.
//!    Either way there is a signal that will be taken after the scan began.
//! 3. Whenever a signal is taken, the time of the next scan is set to
//!    [`SHORTEST_PAUSE`] or a little more, unless it has been set since the
//!    last scan. Nothing puts it off: the clock is looked at before each wait,
//!    and a timer (SIGALRM) ends the wait.
//!
//! So a report whose signal was dropped is found by the next scan. What is
//! outside of this argument is found within [`LONGEST_PAUSE`], the time of a
//! scan when nothing is in doubt: a thread of ours that takes SIGCHLD although
//! [`Signals::take`](super::Signals::take) blocks it everywhere; the end of a
//! process that asked for another signal than SIGCHLD, if its last thread was
//! not traced.
//!
//! Waiting for scans would make busy tasks slow, because they are the ones that
//! drop each other's signals. Therefore, with each signal, those that were
//! resumed a short time ago are asked by id, each at most [`ASKED`] times.
//! What is found is given out in the order in which it was found: nobody
//! starves.
//!
//! A limit of the wait itself, instead of the timer, was tried: to set and
//! clear a timer for each stop costs as much as the stop under a hypervisor.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use libc::{c_int, pid_t};

use super::sys::{self, Told, Waited, Whom};

/// With so many tasks `wait4(-1)` costs as much as signals do (measured).
const FEW: usize = 128;
/// With so many tasks a plain wait can be busy with the newest for ever …
const FAIR_FROM: usize = 4;
/// … so that in one of so many waits all that there is is taken, and given out
/// in order.
const FAIR_EACH: u32 = 8;
/// Tasks that are remembered as resumed.
const MOST_RECENT: usize = 256;
/// How often one of them is asked in vain.
const ASKED: u8 = 2;
/// From a signal to the next scan, at least.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// Likewise, at most, if scans take long.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// From a scan that found nothing to the next, if no signal comes.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// One part in so many of the time may go into scans.
const SCANS_PART: u32 = 16;

/// What is asked of the kernel; another one in tests.
pub(super) trait Kernel {
    /// wait4(2).
    fn wait(&mut self, whom: Whom) -> io::Result<Waited>;
    /// Waits for a signal.
    fn signal(&mut self) -> io::Result<Told>;
    /// Makes [`Kernel::signal`] end with [`Told::Alarm`] after `pause`.
    fn alarm(&mut self, pause: Duration) -> io::Result<()>;
    fn now(&self) -> Instant;
}

/// The real one.
#[derive(Debug)]
pub(super) struct Linux;

impl Kernel for Linux {
    fn wait(&mut self, whom: Whom) -> io::Result<Waited> {
        sys::wait(whom)
    }

    fn signal(&mut self) -> io::Result<Told> {
        sys::wait_for_signal()
    }

    fn alarm(&mut self, pause: Duration) -> io::Result<()> {
        sys::set_alarm(pause)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// A task that was resumed and has not reported since.
#[derive(Clone, Copy, Debug)]
struct Recent {
    tid: pid_t,
    asked: u8,
}

/// The state of waiting.
#[derive(Debug)]
pub(super) struct Waiting<K = Linux> {
    kernel: K,
    /// More tasks than that are many.
    few: usize,
    /// How many there are.
    tasks: usize,
    /// Reports to give out: id, status.
    found: VecDeque<(pid_t, c_int)>,
    /// The latest last.
    recent: VecDeque<Recent>,
    /// When to scan; `None` is at once.
    scan_at: Option<Instant>,
    /// A signal was taken, or something found, since the last scan began.
    doubt: bool,
    /// From a signal to the next scan.
    pause: Duration,
    /// Counts reports given out by a plain wait.
    given: u32,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self::on(Linux, if finds_by_id() { FEW } else { usize::MAX })
    }
}

impl<K: Kernel> Waiting<K> {
    fn on(kernel: K, few: usize) -> Self {
        Self {
            kernel,
            few,
            tasks: 0,
            found: VecDeque::new(),
            recent: VecDeque::new(),
            scan_at: None,
            doubt: true,
            pause: SHORTEST_PAUSE,
            given: 0,
        }
    }

    /// Says how many tasks there are, about.
    pub(super) fn expect(&mut self, tasks: usize) {
        self.tasks = tasks;
    }

    /// Waits for a report.
    pub(super) fn next(&mut self) -> io::Result<Waited> {
        if self.tasks <= self.few && self.found.is_empty() {
            self.recent.clear();
            self.scan_at = None;
            self.given = self.given.wrapping_add(1);
            if self.tasks >= FAIR_FROM && self.given.is_multiple_of(FAIR_EACH) {
                self.collect()?;
                if let Some((tid, status)) = self.found.pop_front() {
                    return self.newest(tid, status);
                }
            }
            return self.kernel.wait(Whom::Block);
        }
        let waited = self.next_of_many()?;
        if let Waited::Status(tid, status) = waited
            && libc::WIFSTOPPED(status)
        {
            // It will be resumed before we are asked again.
            self.forget(tid);
            self.recent.push_back(Recent { tid, asked: 0 });
            if self.recent.len() > MOST_RECENT {
                self.recent.pop_front();
            }
        }
        Ok(waited)
    }

    fn next_of_many(&mut self) -> io::Result<Waited> {
        loop {
            if let Some((tid, status)) = self.found.pop_front() {
                return self.newest(tid, status);
            }
            if self.scan_at.is_none_or(|at| at <= self.kernel.now()) {
                match self.scan()? {
                    Waited::NoChild if self.found.is_empty() => return Ok(Waited::NoChild),
                    _ => continue,
                }
            }
            match self.kernel.signal()? {
                Told::Child(tid) => {
                    self.doubt()?;
                    self.forget(tid);
                    let first = self.kernel.wait(Whom::Id(tid))?;
                    self.ask_recent()?;
                    // A signal of a report that was found before. Not to wait
                    // for the next: a flood of signals would make us deaf.
                    return Ok(if matches!(first, Waited::Status(..)) { first } else { Waited::Interrupted });
                }
                Told::Alarm => self.scan_at = None,
                Told::Interrupted => return Ok(Waited::Interrupted),
            }
        }
    }

    /// A report that was found a while ago, or a newer one of that id: a
    /// stopped task can be killed, and exec(2) gives its id to another.
    fn newest(&mut self, tid: pid_t, status: c_int) -> io::Result<Waited> {
        if libc::WIFSTOPPED(status)
            && let newer @ Waited::Status(..) = self.kernel.wait(Whom::Id(tid))?
        {
            return Ok(newer);
        }
        Ok(Waited::Status(tid, status))
    }

    /// Whether nobody has anything to report now.
    pub(super) fn is_idle(&mut self) -> io::Result<bool> {
        self.collect()?;
        Ok(self.found.is_empty())
    }

    /// Takes all reports that there are. `NoChild` if no task is left.
    fn collect(&mut self) -> io::Result<Waited> {
        loop {
            match self.kernel.wait(Whom::Any)? {
                Waited::Status(tid, status) => self.add(tid, status),
                end => return Ok(end),
            }
        }
    }

    /// Likewise, and says when to do it again.
    fn scan(&mut self) -> io::Result<Waited> {
        let began = self.kernel.now();
        let end = self.collect()?;
        let took = self.kernel.now().saturating_duration_since(began);
        self.pause = (took * SCANS_PART).clamp(SHORTEST_PAUSE, BUSY_PAUSE);
        self.doubt = !self.found.is_empty();
        self.scan_after(if self.doubt { self.pause } else { LONGEST_PAUSE })?;
        Ok(end)
    }

    /// Asks those that were resumed a short time ago.
    fn ask_recent(&mut self) -> io::Result<()> {
        for _ in 0..self.recent.len() {
            let Some(Recent { tid, asked }) = self.recent.pop_front() else { break };
            match self.kernel.wait(Whom::Id(tid))? {
                Waited::Status(tid, status) => self.add(tid, status),
                _ if asked + 1 < ASKED => self.recent.push_back(Recent { tid, asked: asked + 1 }),
                _ => {}
            }
        }
        Ok(())
    }

    /// A newer report of the same id supersedes: see [`Self::newest`].
    fn add(&mut self, tid: pid_t, status: c_int) {
        if let Some(older) = self.found.iter().position(|(found, _)| *found == tid) {
            self.found.remove(older);
        }
        self.found.push_back((tid, status));
    }

    fn forget(&mut self, tid: pid_t) {
        self.recent.retain(|recent| recent.tid != tid);
    }

    /// A signal may have been dropped.
    fn doubt(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.doubt, true) { Ok(()) } else { self.scan_after(self.pause) }
    }

    fn scan_after(&mut self, pause: Duration) -> io::Result<()> {
        self.scan_at = Some(self.kernel.now() + pause);
        self.kernel.alarm(pause)
    }
}

/// Whether wait4 for one id does without walking ("`do_wait`: make
/// `PIDTYPE_PID` case O(1)", Linux 5.13).
fn finds_by_id() -> bool {
    sys::kernel() >= (5, 13)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const STOPPED: c_int = 0x057f;
    const EXITED: c_int = 0;

    /// What happens by itself.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// The task, if it runs, stops.
        Stop,
        /// It ends, whether it runs or is stopped.
        End,
        /// Its pending signal is lost to somebody else.
        Lose,
    }

    /// A kernel as the module's head describes it. Each call takes a while,
    /// in which the world goes on.
    #[derive(Debug)]
    struct Model {
        base: Instant,
        now: Duration,
        /// When, which task, what; sorted, the next last.
        coming: Vec<(Duration, pid_t, Event)>,
        /// Task → since when it has this to report.
        reports: HashMap<pid_t, (c_int, Duration)>,
        running: Vec<pid_t>,
        stopped: Vec<pid_t>,
        pending: Option<pid_t>,
        alarm: Option<Duration>,
        waits: u32,
    }

    impl Model {
        fn new(tasks: u16, mut coming: Vec<(Duration, pid_t, Event)>) -> Self {
            coming.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
            Self {
                base: Instant::now(),
                now: Duration::ZERO,
                coming,
                reports: HashMap::new(),
                running: (1..=pid_t::from(tasks)).collect(),
                stopped: Vec::new(),
                pending: None,
                alarm: None,
                waits: 0,
            }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            while let Some((at, tid, event)) = self.coming.pop_if(|(at, ..)| *at <= self.now) {
                let runs = self.running.contains(&tid);
                let status = match event {
                    Event::Stop if runs => STOPPED,
                    Event::End if runs || self.stopped.contains(&tid) => EXITED,
                    Event::Lose => {
                        self.pending = None;
                        continue;
                    }
                    _ => continue,
                };
                self.running.retain(|other| *other != tid);
                self.stopped.retain(|other| *other != tid);
                if status == STOPPED {
                    self.stopped.push(tid);
                }
                self.reports.insert(tid, (status, at));
                self.pending.get_or_insert(tid);
            }
        }

        fn report(&mut self, tid: pid_t) -> Option<Waited> {
            self.reports.remove(&tid).map(|(status, _)| Waited::Status(tid, status))
        }

        fn resume(&mut self, tid: pid_t) {
            if let Some(index) = self.stopped.iter().position(|stopped| *stopped == tid) {
                // Resuming takes back what was not reported.
                self.reports.remove(&tid);
                self.running.push(self.stopped.remove(index));
            }
        }
    }

    impl Kernel for Model {
        fn wait(&mut self, whom: Whom) -> io::Result<Waited> {
            self.waits += 1;
            self.pass(Duration::from_micros(1));
            let known = |tid: &pid_t| {
                self.running.contains(tid) || self.stopped.contains(tid) || self.reports.contains_key(tid)
            };
            Ok(match whom {
                Whom::Id(tid) if !known(&tid) => Waited::NoChild,
                Whom::Id(tid) => self.report(tid).unwrap_or(Waited::Nothing),
                Whom::Any if self.running.is_empty() && self.stopped.is_empty() && self.reports.is_empty() => {
                    Waited::NoChild
                }
                // The newest first.
                Whom::Any => {
                    self.reports.keys().max().copied().and_then(|tid| self.report(tid)).unwrap_or(Waited::Nothing)
                }
                Whom::Block => panic!("many tasks"),
            })
        }

        fn signal(&mut self) -> io::Result<Told> {
            self.pass(Duration::from_micros(1));
            loop {
                if let Some(tid) = self.pending.take() {
                    return Ok(Told::Child(tid));
                }
                if self.alarm.is_some_and(|at| at <= self.now) {
                    self.alarm = None;
                    return Ok(Told::Alarm);
                }
                let next = self.coming.last().map(|(at, ..)| *at);
                let until = next.into_iter().chain(self.alarm).min().expect("nothing will ever wake us");
                self.pass(until.saturating_sub(self.now));
            }
        }

        fn alarm(&mut self, pause: Duration) -> io::Result<()> {
            self.alarm = Some(self.now + pause);
            Ok(())
        }

        fn now(&self) -> Instant {
            self.base + self.now
        }
    }

    fn event(lossy: bool) -> impl Strategy<Value = Event> {
        prop_oneof![20 => Just(Event::Stop), 2 => Just(Event::End), u32::from(lossy) => Just(Event::Lose)]
    }

    /// Runs the model until all tasks have ended; each report must come out, in
    /// time.
    fn all_come_out(tasks: u16, coming: &[(u32, u16, Event)], limit: Duration) {
        let mut coming: Vec<_> = coming
            .iter()
            .map(|(at, task, event)| (Duration::from_micros((*at).into()), pid_t::from(task % tasks + 1), *event))
            .collect();
        let last = coming.iter().map(|(at, ..)| *at).max().unwrap_or_default();
        coming.extend((1..=tasks).map(|tid| (last + LONGEST_PAUSE, pid_t::from(tid), Event::End)));
        let mut waiting = Waiting::on(Model::new(tasks, coming), 0);
        waiting.expect(tasks.into());
        loop {
            let waited = waiting.next().expect("the model does not fail");
            let model = &mut waiting.kernel;
            match waited {
                Waited::Status(tid, STOPPED) => {
                    model.resume(tid);
                    model.pass(Duration::from_micros(5));
                }
                Waited::Status(..) | Waited::Interrupted => {}
                Waited::NoChild => {
                    assert!(model.running.is_empty() && model.stopped.is_empty() && model.reports.is_empty());
                    return;
                }
                Waited::Nothing => panic!("not an answer"),
            }
            for (tid, (_, since)) in &model.reports {
                assert!(
                    model.now.saturating_sub(*since) < limit,
                    "{tid} has waited since {since:?}: it is {:?}",
                    model.now
                );
            }
        }
    }

    proptest! {
        #[test]
        fn dropped_signals_lose_no_report(
            tasks in 1..400u16,
            coming in vec((0..20_000u32, any::<u16>(), event(false)), 1..1500),
        ) {
            all_come_out(tasks, &coming, Duration::from_millis(60));
        }

        #[test]
        fn signals_that_others_take_lose_no_report(
            tasks in 1..40u16,
            coming in vec((0..3_000_000u32, any::<u16>(), event(true)), 1..500),
        ) {
            all_come_out(tasks, &coming, LONGEST_PAUSE + Duration::from_millis(60));
        }
    }

    /// One task stops again and again, a thousand do nothing.
    #[test]
    fn one_busy_task_costs_one_wait_a_stop() {
        let coming = (1..=10_000).map(|n| (Duration::from_micros(n * 20), 1, Event::Stop)).collect();
        let mut waiting = Waiting::on(Model::new(1000, coming), 0);
        waiting.expect(1000);
        for _ in 0..10_000 {
            let Waited::Status(tid, STOPPED) = waiting.next().expect("the model does not fail") else {
                panic!("only stops")
            };
            waiting.kernel.resume(tid);
        }
        assert!(waiting.kernel.waits < 11_000, "{} waits", waiting.kernel.waits);
    }

    #[test]
    fn a_death_supersedes_the_stop_before_it() {
        let mut waiting = Waiting::on(Model::new(2, Vec::new()), 0);
        waiting.add(1, STOPPED);
        waiting.add(2, STOPPED);
        waiting.add(1, EXITED);
        assert_eq!(waiting.found, [(2, STOPPED), (1, EXITED)]);
        // And one that comes while the stop waits for its turn.
        waiting.kernel.coming.push((Duration::ZERO, 2, Event::End));
        assert!(matches!(waiting.newest(2, STOPPED), Ok(Waited::Status(2, EXITED))));
    }
}
