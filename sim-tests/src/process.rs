//! Panics of the code under test: caught, and told as facts.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

static QUIET: Once = Once::new();

/// Keeps panics that the world catches from being printed, for the rest of the process.
pub fn keep_panics_quiet() {
    QUIET.call_once(|| panic::set_hook(Box::new(remember)));
}

fn remember(info: &PanicHookInfo<'_>) {
    let words = words_of(info.payload());
    let at =
        info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
    LAST.with_borrow_mut(|last| *last = Some(format!("{words}{at}")));
}

fn words_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

/// Takes the words of the last panic of this thread.
pub fn take_panic() -> String {
    LAST.with_borrow_mut(Option::take).unwrap_or_else(|| "a panic".into())
}
