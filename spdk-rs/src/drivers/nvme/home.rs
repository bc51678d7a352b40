//! A controller on the reactor that has its admin queue: the task that connects it, watches it, and
//! connects it anew.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Either, join_all, select};

pub(super) use self::asks::{abort, disable, report, rescan, reset, stop, tell};
use super::api::ControllerState;
use super::controller::Controller;
use super::core::{NvmeCore, on_all};
use super::driver::Shared;
use crate::bdev::DeviceEvent;
use crate::nvme::controller::LinkError;
use crate::nvme::controller::link::{Link, LinkKind, Step};
use crate::nvme::controller::logs::AnaStates;
use crate::nvme::controller::reconnect::{Attempt, io_fails, next_attempt};
use crate::nvme::controller::signal::{Events, Signal};
use crate::reactor::{Reactor, sleep};

mod asks;

/// How long commands may take to end when a controller is detached.
const GRACE: Duration = Duration::from_secs(1);
/// How often that is looked at.
const GRACE_LOOK: Duration = Duration::from_millis(2);
/// Time until a log page that tells of a change is read again.
const CHANGE_LOOK: Duration = Duration::from_secs(1);

/// A controller at home.
pub(super) struct Home {
    controller: Arc<Controller>,
    reactor: Rc<Reactor>,
    shared: Arc<Shared>,
    signal: Rc<Signal>,
    link: RefCell<Option<Rc<Link>>>,
    /// Who waits for the next look at the namespaces.
    rescans: RefCell<Vec<oneshot::Sender<Result<(), String>>>>,
    /// Who waits for the next connection.
    resets: RefCell<Vec<oneshot::Sender<Result<(), String>>>>,
    /// Who waits for the end.
    stops: RefCell<Vec<oneshot::Sender<()>>>,
    /// Who waits for the end of all connections.
    disables: RefCell<Vec<oneshot::Sender<()>>>,
    /// It is being detached, since its device goes.
    leaving: Cell<bool>,
}

/// The answer to whoever attaches: the names of the block devices, or why it failed.
pub(super) type First = oneshot::Sender<Result<Vec<String>, String>>;

/// Starts a controller's task on this reactor, its home.
pub(super) fn start(
    reactor: &Rc<Reactor>,
    shared: &Arc<Shared>,
    controller: &Arc<Controller>,
    first: First,
) {
    let home = Rc::new(Home {
        controller: Arc::clone(controller),
        reactor: Rc::clone(reactor),
        shared: Arc::clone(shared),
        signal: Rc::default(),
        link: RefCell::default(),
        rescans: RefCell::default(),
        resets: RefCell::default(),
        stops: RefCell::default(),
        disables: RefCell::default(),
        leaving: Cell::new(false),
    });
    NvmeCore::of(reactor).add_home(&home);
    reactor.spawn("nvme controller", async move { home.run(first).await });
}

impl Home {
    pub(super) fn controller(&self) -> &Arc<Controller> {
        &self.controller
    }

    /// The association, if there is one.
    pub(super) fn link(&self) -> Option<Rc<Link>> {
        self.link.borrow().clone()
    }

    async fn run(self: Rc<Self>, first: First) {
        let mut first = Some(first);
        while let Some(link) = self.reach(&mut first).await {
            *self.link.borrow_mut() = Some(Rc::clone(&link));
            // What was said of the association before comes too late.
            self.signal.take(Events::QUEUE_LOST | Events::RESET);
            self.controller.connected(link.info());
            link.inject(self.controller.rules(true));
            match self.bring_up(&link).await {
                Ok(names) => {
                    match first.take() {
                        Some(first) => drop(first.send(Ok(names))),
                        None => self.tell_back(),
                    }
                    self.answer_resets(&Ok(()));
                    // The namespaces have just been looked at.
                    for waiting in self.rescans.take() {
                        let _ = waiting.send(Ok(()));
                    }
                    if self.controller.is_disabled() {
                        // That was asked for while it was being connected.
                        self.signal.raise(Events::RESET);
                    }
                    self.serve(&link).await;
                }
                Err(why) => {
                    self.controller.set_trouble(&why);
                    if let Some(first) = first.take() {
                        let _ = first.send(Err(why));
                        self.tear_down(&link).await;
                        break;
                    }
                    let pause = async {
                        sleep(CHANGE_LOOK).await;
                        Ok(())
                    };
                    let _ = self.unless_stopped(pause).await;
                }
            }
            self.tear_down(&link).await;
        }
        self.controller.set_state(ControllerState::Deleting);
        self.answer_resets(&Err("the controller was detached".to_owned()));
        drop(self.rescans.take());
        drop(self.disables.take());
        NvmeCore::of(&self.reactor).remove_home(self.controller.id);
        for stop in self.stops.take() {
            let _ = stop.send(());
        }
    }

    /// Tells of a controller that is reached again.
    fn tell_back(&self) {
        self.shared.tell(&self.controller, |connected, paths| match connected {
            0 | 1 => DeviceEvent::Reconnected,
            _ => DeviceEvent::PathRestored { connected, paths },
        });
    }

    /// Tells of a controller that is lost.
    fn tell_lost(&self) {
        self.shared.tell(&self.controller, |connected, paths| match connected {
            0 => DeviceEvent::Reconnecting,
            _ => DeviceEvent::PathFailed { connected, paths },
        });
    }

    fn answer_resets(&self, answer: &Result<(), String>) {
        for reset in self.resets.take() {
            let _ = reset.send(answer.clone());
        }
    }

    /// Connects the controller, as often as the options allow; none when it is to be detached, or
    /// when the first attempt of all failed.
    async fn reach(self: &Rc<Self>, first: &mut Option<First>) -> Option<Rc<Link>> {
        let clock = self.reactor.clock().clone();
        let mut lost_at = clock.ticks();
        let mut failed = 0;
        // What was asked of the association before is answered by a new one.
        let asked = self.signal.take(Events::all() - Events::STOP);
        if asked.contains(Events::LEAVING) {
            self.leave("its device was pulled out");
        }
        self.watch_patience();
        loop {
            if self.controller.is_disabled() && !self.signal.has(Events::STOP) {
                self.rest().await;
                (lost_at, failed) = (clock.ticks(), 0);
                self.watch_patience();
            }
            let options = &self.controller.options;
            let lost_for = clock.duration_of(clock.ticks().saturating_sub(lost_at));
            match next_attempt(options, lost_for, failed, self.reactor.random()) {
                Attempt::Now => {}
                Attempt::After(delay) => {
                    let asked = self.signal.wait(Events::STOP | Events::RESET);
                    if let Either::Left((events, _)) =
                        select(Box::pin(asked), Box::pin(sleep(delay))).await
                        && events.contains(Events::STOP)
                    {
                        self.signal.raise(Events::STOP);
                    }
                    if self.controller.is_disabled() && !self.signal.has(Events::STOP) {
                        continue;
                    }
                }
                Attempt::Never => {
                    self.give_up().await;
                    if self.signal.has(Events::STOP) {
                        return None;
                    }
                    self.controller.set_state(ControllerState::Resetting);
                    (lost_at, failed) = (clock.ticks(), 0);
                }
            }
            if self.signal.has(Events::STOP) {
                if let Some(first) = first.take() {
                    let _ = first.send(Err("it is detached already".to_owned()));
                }
                return None;
            }
            match self.attempt().await {
                Ok(link) => return Some(link),
                Err((error, step)) => {
                    failed += 1;
                    let (name, trid) = (&self.controller.name, &self.controller.trid);
                    let why = format!("{error} (at step '{step:?}')");
                    tracing::warn!(controller = name, %trid, failed, why, "not connected");
                    self.controller.set_trouble(&why);
                    if let Some(first) = first.take() {
                        let _ = first.send(Err(why));
                        return None;
                    }
                    if matches!(error, LinkError::Absent { .. }) {
                        self.leave("its device is not there any more");
                        self.signal.wait(Events::STOP).await;
                        self.signal.raise(Events::STOP);
                    }
                }
            }
        }
    }

    /// One attempt; detaching and disabling end it.
    async fn attempt(&self) -> Result<Rc<Link>, (LinkError, Step)> {
        let controller = &self.controller;
        let step = Cell::new(Step::Connect);
        let kind = if controller.trid.is_discovery() { LinkKind::Discovery } else { LinkKind::Io };
        let (trid, options) = (&controller.trid, &controller.options);
        let connecting = Link::connect(&self.reactor, trid, options, kind, &self.signal, &step);
        let stopped = async {
            while !self.signal.has(Events::STOP) && !controller.is_disabled() {
                let events = self.signal.wait(Events::STOP | Events::RESET).await;
                self.signal.raise(events & Events::STOP);
            }
        };
        match select(Box::pin(connecting), Box::pin(stopped)).await {
            Either::Left((done, _)) => done.map_err(|error| (error, step.get())),
            Either::Right(_) => {
                Err((LinkError::Closed { what: "detaching or disabling" }, step.get()))
            }
        }
    }

    /// Fails I/O, and waits until somebody wants to try again.
    async fn give_up(&self) {
        let name = &self.controller.name;
        tracing::error!(controller = name, "an NVMe controller is given up; its I/O fails");
        self.controller.set_state(ControllerState::Failed);
        self.shared.tell(&self.controller, |connected, paths| match connected {
            0 => DeviceEvent::Unreachable,
            _ => DeviceEvent::PathFailed { connected, paths },
        });
        let why = self.controller.trouble().unwrap_or_else(|| "it cannot be reached".to_owned());
        self.answer_resets(&Err(why));
        self.tell_channels().await;
        let events = self.signal.wait(Events::STOP | Events::RESET).await;
        self.signal.raise(events & Events::STOP);
    }

    /// Stays without connections until the controller is enabled, or detached.
    async fn rest(&self) {
        self.controller.set_state(ControllerState::Disabled);
        self.controller.set_trouble("it was disabled");
        self.shared.tell(&self.controller, |connected, paths| match connected {
            0 => DeviceEvent::Unreachable,
            _ => DeviceEvent::PathFailed { connected, paths },
        });
        self.tell_channels().await;
        while self.controller.is_disabled() {
            for disable in self.disables.take() {
                let _ = disable.send(());
            }
            let events = self.signal.wait(Events::STOP | Events::RESET).await;
            if events.contains(Events::STOP) {
                self.signal.raise(Events::STOP);
                return;
            }
            if self.controller.is_disabled() {
                self.answer_resets(&Err("it is disabled".to_owned()));
            }
        }
        self.controller.set_state(ControllerState::Resetting);
    }

    /// Detaches the controller, since its device goes. This comes back as a request to stop.
    fn leave(&self, why: &'static str) {
        if self.leaving.replace(true) {
            return;
        }
        let (shared, controller) = (Arc::clone(&self.shared), Arc::clone(&self.controller));
        tracing::warn!(controller = controller.name, why, "an NVMe controller is detached");
        shared.tell(&controller, |_, _| DeviceEvent::Unplugged { reason: why.into() });
        self.reactor.spawn("nvme removal", async move { shared.detach(&controller).await });
    }

    /// Lets I/O fail when the controller stays away for longer than I/O is to wait.
    fn watch_patience(self: &Rc<Self>) {
        let patience = Duration::from_secs(self.controller.options.fast_io_fail_timeout_sec.into());
        let lost = self.controller.state() == ControllerState::Resetting;
        if patience.is_zero() || !lost {
            return;
        }
        let (home, association) = (Rc::downgrade(self), self.controller.association());
        self.reactor.spawn("nvme fast I/O fail", async move {
            sleep(patience).await;
            let Some(home) = home.upgrade() else { return };
            let controller = &home.controller;
            let still = controller.association() == association
                && controller.state() == ControllerState::Resetting;
            if still && io_fails(&controller.options, patience) && controller.set_io_fails(true) {
                home.tell_channels().await;
            }
        });
    }

    /// Has every core look at what waits.
    async fn tell_channels(&self) {
        on_all(&self.shared.reactors, |reactor| {
            for channel in NvmeCore::of(reactor).channels() {
                channel.path_changed();
            }
        })
        .await;
    }

    /// Makes the namespaces usable, and has the cores connect their queues.
    async fn bring_up(&self, link: &Rc<Link>) -> Result<Vec<String>, String> {
        let names = self.scan(link).await.map_err(|error| error.to_string())??;
        let id = self.controller.id;
        on_all(&self.shared.reactors, move |reactor| {
            if let Some(queue) = NvmeCore::of(reactor).find_queue(id) {
                queue.connect();
            }
        })
        .await;
        Ok(names)
    }

    /// Compares the controller's namespaces with what is known.
    async fn scan(&self, link: &Rc<Link>) -> Result<Result<Vec<String>, String>, LinkError> {
        if self.controller.trid.is_discovery() {
            // It may have changed while nobody listened.
            self.shared.discovery_changed(&self.controller);
            return Ok(Ok(Vec::new()));
        }
        let asked =
            async { Ok::<_, LinkError>((link.namespaces().await?, self.ana_states(link).await?)) };
        let (namespaces, states) = self.unless_stopped(asked).await?;
        Ok(self.shared.update(&self.reactor, &self.controller, &namespaces, &states).await)
    }

    /// What a controller is asked, unless it is to be detached meanwhile: it may never answer.
    async fn unless_stopped<T>(
        &self,
        asked: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        let stopped = self.signal.wait(Events::STOP);
        match select(Box::pin(asked), Box::pin(stopped)).await {
            Either::Left((answered, _)) => answered,
            Either::Right(_) => {
                self.signal.raise(Events::STOP);
                Err(LinkError::Closed { what: "detaching" })
            }
        }
    }

    async fn ana_states(&self, link: &Rc<Link>) -> Result<AnaStates, LinkError> {
        if link.info().reports_ana() { link.ana_states().await } else { Ok(AnaStates::default()) }
    }

    /// Heeds events until the association has ended, or is to end.
    async fn serve(&self, link: &Rc<Link>) {
        loop {
            let events = self.signal.wait(Events::all()).await;
            if events.contains(Events::STOP) {
                self.signal.raise(Events::STOP);
                return;
            }
            if events.contains(Events::LEAVING) {
                self.leave("its device was pulled out, or is to be given back");
            }
            if events.contains(Events::RESET) {
                let reason = self.controller.trouble().unwrap_or_else(|| "asked for".to_owned());
                let event = DeviceEvent::ControllerReset { reason: reason.into() };
                self.shared.tell(&self.controller, |_, _| event.clone());
            }
            if events.intersects(Events::RESET | Events::QUEUE_LOST) || link.is_closed() {
                if link.is_closed() {
                    self.shared.tell(&self.controller, |_, _| DeviceEvent::AdminQueueFailed);
                }
                self.controller.set_trouble("the connection was lost or reset");
                return;
            }
            if events.contains(Events::NAMESPACES) {
                self.look_again(link).await;
            } else if events.contains(Events::ANA) {
                self.read_ana(link).await;
            }
            if events.contains(Events::DISCOVERY) {
                self.shared.discovery_changed(&self.controller);
            }
        }
    }

    /// Compares the namespaces with what is known, and tells those who wait for that.
    async fn look_again(&self, link: &Rc<Link>) {
        // Who asks meanwhile may have changed what was read already, and gets a look of its own.
        let waiting = self.rescans.take();
        let outcome = match self.scan(link).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(why)) => {
                tracing::warn!(why, "namespaces could not all be used");
                Err(why)
            }
            Err(error) => {
                tracing::warn!(%error, "namespaces could not be read");
                Err(error.to_string())
            }
        };
        for waiting in waiting {
            let _ = waiting.send(outcome.clone());
        }
    }

    async fn read_ana(&self, link: &Rc<Link>) {
        match self.unless_stopped(self.ana_states(link)).await {
            Ok(states) => {
                self.shared.set_states(&self.controller, &states).await;
                if states.is_changing() {
                    let signal = Rc::downgrade(&self.signal);
                    self.reactor.spawn("nvme ANA change", async move {
                        sleep(CHANGE_LOOK).await;
                        if let Some(signal) = signal.upgrade() {
                            signal.raise(Events::ANA);
                        }
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "the ANA log page could not be read"),
        }
    }

    /// Ends the association: I/O queues first, so that no command is left when the controller
    /// goes.
    async fn tear_down(&self, link: &Rc<Link>) {
        let stopping = self.signal.has(Events::STOP);
        let id = self.controller.id;
        if stopping {
            self.drain().await;
        } else {
            self.controller.set_state(ControllerState::Resetting);
            self.tell_lost();
            link.halt().await;
        }
        // All at once: what a core sent through another one's queue ends with that.
        let ended = self.shared.reactors.iter().map(|reactor| {
            reactor.spawn(move |reactor| async move {
                if let Some(queue) = NvmeCore::of(&reactor).find_queue(id) {
                    queue.disconnect("the controller is being reset or detached").await;
                }
            })
        });
        let _ = join_all(ended).await;
        let _ = self.link.borrow_mut().take();
        if stopping && !link.is_closed() {
            link.shut_down().await;
        } else {
            link.close("the controller is being reset");
        }
        link.closed().await;
    }

    /// Gives commands some time to end.
    async fn drain(&self) {
        let clock = self.reactor.clock();
        let until = clock.ticks().saturating_add(clock.ticks_in(GRACE));
        let id = self.controller.id;
        for reactor in &self.shared.reactors {
            while clock.ticks() < until {
                let left = reactor.call(move |reactor| {
                    let queue = NvmeCore::of(reactor).find_queue(id);
                    queue.map_or(0, |queue| queue.outstanding())
                });
                if !matches!(left.await, Ok(1..)) {
                    break;
                }
                sleep(GRACE_LOOK).await;
            }
        }
    }
}
