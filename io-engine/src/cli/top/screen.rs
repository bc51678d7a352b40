//! The load on a terminal, drawn anew every interval.

use std::io::{self, Write as _, stdout};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{execute, queue};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::sample::Load;
use super::{Sort, TopArgs, TopError, Watch, table};

/// How long the thread that waits for keys waits at once, and so how long it outlives the screen.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// The terminal in the mode for a screen. It gets back its own mode however the screen ends.
struct Terminal;

impl Terminal {
    fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        let terminal = Self;
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // There is no other way to try.
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Quit,
    Pause,
    Sort(Sort),
    Redraw,
}

fn action(event: &Event) -> Option<Action> {
    let KeyEvent { code, modifiers, kind, .. } = match event {
        Event::Key(key) => *key,
        Event::Resize(..) => return Some(Action::Redraw),
        _ => return None,
    };
    if kind != KeyEventKind::Press {
        return None;
    }
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Action::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Action::Quit),
        KeyCode::Char('p' | ' ') => Some(Action::Pause),
        KeyCode::Char('i') => Some(Action::Sort(Sort::Iops)),
        KeyCode::Char('t') => Some(Action::Sort(Sort::Throughput)),
        KeyCode::Char('l') => Some(Action::Sort(Sort::Latency)),
        KeyCode::Char('n') => Some(Action::Sort(Sort::Name)),
        _ => None,
    }
}

/// Reads keys in a thread of its own, until nobody wants them any more.
fn keys() -> mpsc::Receiver<io::Result<Action>> {
    let (tell, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !tell.is_closed() {
            let pressed = match event::poll(KEY_WAIT) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let wanted = match pressed {
                Ok(event) => action(&event).map(Ok),
                Err(error) => Some(Err(error)),
            };
            let failed = matches!(wanted, Some(Err(_)));
            if wanted.is_some_and(|wanted| tell.blocking_send(wanted).is_err()) || failed {
                return;
            }
        }
    });
    keys
}

/// Shows the load until a key ends it, or the tables that were asked for are shown.
pub(super) async fn run(watch: &mut Watch, args: &TopArgs) -> Result<(), TopError> {
    let terminal = Terminal::enter()?;
    let shown = show(watch, args).await;
    drop(terminal);
    shown
}

async fn show(watch: &mut Watch, args: &TopArgs) -> Result<(), TopError> {
    let mut keys = keys();
    let (mut sort, mut paused, mut left) = (args.sort, false, args.iterations);
    let mut load = Load::default();
    let mut next = Instant::now() + watch.delay;
    loop {
        draw(&load, sort, paused)?;
        if left == Some(0) {
            return Ok(());
        }
        tokio::select! {
            () = sleep_until(next), if !paused => {
                load = watch.look().await?;
                left = left.map(|left| left - 1);
                next = Instant::now() + watch.delay;
            }
            key = keys.recv() => match key {
                None | Some(Ok(Action::Quit)) => return Ok(()),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(Action::Pause)) => {
                    paused = !paused;
                    next = Instant::now() + watch.delay;
                }
                Some(Ok(Action::Sort(order))) => sort = order,
                Some(Ok(Action::Redraw)) => {}
            }
        }
    }
}

fn draw(load: &Load, sort: Sort, paused: bool) -> io::Result<()> {
    let (_, rows) = terminal::size()?;
    let state = if paused { "paused" } else { "running" };
    let head = format!(
        "io-engine top, {state} | q quit, p pause | sort by i I/Os, t throughput, l latency, n name"
    );
    let text = table::text(load, sort);
    let mut out = stdout();
    queue!(out, Clear(ClearType::All))?;
    // What does not fit is at the end: the devices with the least load.
    for (row, line) in (0..rows).zip(std::iter::once(head.as_str()).chain(text.lines())) {
        queue!(out, MoveTo(0, row))?;
        write!(out, "{line}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ask_for_something() {
        let key = |code, modifiers| action(&Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        assert_eq!(key(KeyCode::Char('q'), none), Some(Action::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(key(KeyCode::Char('c'), none), None);
        assert_eq!(key(KeyCode::Char('p'), none), Some(Action::Pause));
        assert_eq!(key(KeyCode::Char('l'), none), Some(Action::Sort(Sort::Latency)));
        assert_eq!(action(&Event::Resize(80, 25)), Some(Action::Redraw));
    }
}
