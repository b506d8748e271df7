//! Panics that are part of a world are not printed: a poisoned command, a process that ends. One that ends a world is
//! its verdict and comes back as text, with its place. Changes nothing outside this thread's worlds.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// Runs a world.
///
/// # Errors
/// The message of the panic that ended it.
pub fn run<R>(world: impl FnOnce() -> R) -> Result<R, String> {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if QUIET.get() {
                LAST.with_borrow_mut(|last| *last = info.to_string());
            } else {
                before(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(world));
    QUIET.set(false);
    result.map_err(|_| LAST.with_borrow(Clone::clone))
}
