//! Counts what a thread allocates, so that "no allocation a bid" is a number and not a hope.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting for each thread by itself.
struct Counting;

thread_local! {
    // Constant and without a destructor: reading it inside the allocator allocates nothing.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

// Counting allocations has no safe form: the trait itself is unsafe. Every call goes on to the system's allocator as
// it came.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How many allocations and reallocations this thread made since it began.
pub fn on_this_thread() -> u64 {
    COUNT.get()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_allocation_is_counted() {
        let before = super::on_this_thread();
        let held = std::hint::black_box(vec![1u8; 100]);
        assert_eq!(super::on_this_thread() - before, 1);
        drop(held);
        assert_eq!(super::on_this_thread() - before, 1, "giving back is no allocation");
    }
}
