//! What growing holds at its peak, and copies.

use crate::counting::bytes;
use crate::{Ours, PAGE, grower, stock};

/// What one side took while a guest grew. Bytes.
#[derive(Clone, Copy)]
struct Took {
    /// Held at the peak.
    held: usize,
    copied: usize,
}

/// What stock and we take while a guest grows `n` times, and the most its crate is charged here.
fn growth(ours: &Ours, n: usize) -> (Took, Took, usize) {
    let wasm = grower(n + 1);
    let (held, copied) = bytes(|| {
        let mut stock = stock(&wasm);
        assert_eq!(stock.run.call(&mut stock.store, n as i32).unwrap(), n as i32);
    });
    let stock = Took { held, copied };
    let id = ours.register();
    let (held, copied) = bytes(|| {
        assert_eq!(ours.load_for(id, &wasm).call::<i32, i32>("run", n as i32).unwrap(), n as i32);
    });
    let charged = ours.high_water(id);
    ours.retire(id);
    (stock, Took { held, copied }, charged)
}

/// Both sides have the guest's pages at the end, whoever keeps them: nobody can hold less than those.
pub fn table() {
    println!("growing from one page by one, n times: bytes held at the peak (all of the guest), and copied;");
    println!("charged: the most its crate is, with what the runtime is estimated to need while it loads");
    println!(
        "{:>5} {:>12} {:>12} {:>8} {:>14} {:>12} {:>12} {:>14} {:>12}",
        "n", "stock", "here", "ratio", "pages / stock", "charged", "/ stock", "stock copied", "here copied"
    );
    // Memories from the same allocator as stock's.
    let ours = Ours::on_the_heap();
    let mut means = [0.0; 3];
    let mut half = 0;
    for n in 1..=256 {
        let (stock, here, charged) = growth(&ours, n);
        let [ratio, least, charge] =
            [here.held, (n + 1) * PAGE, charged].map(|bytes| bytes as f64 / stock.held as f64);
        for (mean, ratio) in means.iter_mut().zip([ratio, least, charge]) {
            *mean += ratio / 256.0;
        }
        half += usize::from(ratio <= 0.5);
        // Where the pages alone are above half, so is everybody.
        assert!(
            ratio <= 0.5 || ratio - least < 0.12,
            "{ratio:.2} of stock at n = {n}, of which {least:.2} are the pages"
        );
        if [1, 2, 3, 4, 16, 64, 96, 127, 128, 255, 256].contains(&n) {
            println!(
                "{n:>5} {:>12} {:>12} {ratio:>8.2} {least:>14.2} {charged:>12} {charge:>12.2} {:>14} {:>12}{}",
                stock.held,
                here.held,
                stock.copied,
                here.copied,
                if least > 0.5 { "  above half by its pages" } else { "" }
            );
        }
    }
    let [ratio, least, charge] = means;
    println!(
        "mean of n from 1 to 256: {ratio:.3}, pages / stock {least:.3}, charged / stock {charge:.3}; at most half for {half} of them"
    );
}
