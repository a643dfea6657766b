//! Two greenlets that pass the thread to each other by hand: the lowest floor that a program can stand on.
//!
//! ```text
//! cargo run --example greenlet_switch
//! ```
//!
//! prints `12 56 34 78`, one number a line. No scheduler takes part: a greenlet runs when someone switches to it, and
//! until it switches away or ends.
#![allow(clippy::print_stdout, reason = "printing is what this program shows")]

use std::cell::OnceCell;
use std::rc::Rc;

use greenroom::greenlet::Greenlet;

fn main() {
    // Each greenlet needs to name the other, and one of them has to be made first.
    let second = Rc::new(OnceCell::<Greenlet<()>>::new());

    let first = Greenlet::new({
        let second = Rc::clone(&second);
        move |()| {
            println!("12");
            let other = second.get().expect("main made it before it switched to us");
            other.switch(()).expect("nobody kills us");
            println!("34");
            // The end of a greenlet switches to its parent: to main, which made it.
        }
    });

    let made = second.set(Greenlet::new({
        let first = first.clone();
        move |()| {
            println!("56");
            first.switch(()).expect("nobody kills us");
            println!("78");
        }
    }));
    assert!(made.is_ok(), "it was empty");

    // 12, over to the second: 56, back to the first: 34, the first ends: back here.
    first.switch(()).expect("nobody kills us");
    assert!(first.is_dead());

    // The second still stands where it switched away. 78, and it ends.
    let second = second.get().expect("set above");
    second.switch(()).expect("nobody kills us");
    assert!(second.is_dead());
}
