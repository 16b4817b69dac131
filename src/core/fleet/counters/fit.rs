use serde::Serialize;

use super::{Counted, Counters, Instance, LeftOut, WhyLeftOut};

/// The most names in `lacks`, and in `left_out`.
const MAX_NAMES: usize = 64;
/// What surrounds the name of a backend in `left_out`: `["","size"],`.
const LEFT_OUT_FRAME: usize = 12;
/// The most characters of a text that is not a name of HAProxy or Consul.
const MAX_TEXT: usize = 64;
/// The same of an error, which has the name of a server in it.
const MAX_ERROR: usize = 320;

impl Counters {
    /// The value of the key, at most [`Counters::MAX_BYTES`].
    ///
    /// Where it would be larger, each view keeps only its last block. Where that is not enough, the backends that were
    /// observed last are left out whole and named.
    pub fn to_value(mut self) -> Vec<u8> {
        self.bound();
        let value = self.encoded();
        if value.len() <= Self::MAX_BYTES {
            return value;
        }
        let views =
            self.backends.iter_mut().flat_map(|counted| &mut counted.instances).flat_map(|found| &mut found.views);
        for view in views {
            view.blocks.drain(..view.blocks.len().saturating_sub(1));
        }
        self.leave_out();
        self.encoded()
    }

    /// Keeps the backends that fit, in their order.
    fn leave_out(&mut self) {
        let backends = std::mem::take(&mut self.backends);
        let named = |counted: &Counted| counted.backend.as_str().len() + LEFT_OUT_FRAME;
        let mut size = self.encoded().len() + r#","left_out":[]"#.len() + backends.iter().map(named).sum::<usize>();
        for counted in backends {
            let with = size - named(&counted) + encoded(&counted).len() + 1;
            if with <= Self::MAX_BYTES {
                size = with;
                self.backends.push(counted);
            } else {
                self.left_out.push(LeftOut(counted.backend, WhyLeftOut::Size));
            }
        }
    }

    /// Bounds what has no bound of its own, so that the names of all backends always fit.
    fn bound(&mut self) {
        let kept = self.backends.len().min(Self::MAX_BACKENDS);
        for counted in self.backends.drain(kept..) {
            self.left_out.push(LeftOut(counted.backend, WhyLeftOut::Backends));
        }
        self.more += self.lacks.len().saturating_sub(MAX_NAMES) + self.left_out.len().saturating_sub(MAX_NAMES);
        self.lacks.truncate(MAX_NAMES);
        self.left_out.truncate(MAX_NAMES);
        shorten(&mut self.incarnation, MAX_TEXT);
        for Instance { name, down, version, algorithm, views, .. } in
            self.backends.iter_mut().flat_map(|counted| &mut counted.instances)
        {
            for text in [name, version, algorithm].into_iter().chain(down) {
                shorten(text, MAX_TEXT);
            }
            for error in views.iter_mut().filter_map(|view| view.error.as_mut()) {
                shorten(error, MAX_ERROR);
            }
        }
    }

    pub(super) fn encoded(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Versioned<'a> {
            v: u64,
            #[serde(flatten)]
            report: &'a Counters,
        }

        encoded(&Versioned { v: 1, report: self })
    }
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and maps with texts as keys: there is nothing that JSON could not hold. A share is never infinite.
    serde_json::to_vec(value).unwrap_or_default()
}

fn shorten(text: &mut String, most: usize) {
    if let Some((at, _)) = text.char_indices().nth(most) {
        text.truncate(at);
    }
}
