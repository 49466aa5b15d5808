//! The prefixes as a tree of shared beginnings.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::{iter, mem};

use super::allocated_bytes;

/// Where the root lies in a trie that is not empty.
const ROOT: usize = 0;
/// Nodes that are looked at before the cache is asked.
const EARLY: usize = 4;
/// So many free nodes are kept in any case: moving the others together would gain next to nothing.
const KEPT_FREE_NODES: usize = 64;

/// Which subscribers hold which prefixes, as a tree of nodes in one arena.
///
/// A node stands for the bytes from the root to its own. A trie without prefixes has no node, and no memory.
#[derive(Default)]
pub(super) struct Trie {
    /// The root first. Invariant: each other node has a subscriber or at least two children, so that there are fewer
    /// nodes than twice the prefixes.
    nodes: Vec<Node>,
    /// Nodes outside the tree, the next ones to be used.
    free: Vec<u32>,
    /// Invariant: the sum of [`Node::heap_bytes`] over all nodes.
    heap_bytes: usize,
}

#[derive(Default)]
struct Node {
    /// The bytes between the parent and this node. Empty for the root alone.
    label: Box<[u8]>,
    /// In ascending order of `first`.
    children: Vec<Child>,
    /// In ascending order.
    subscribers: Vec<u32>,
}

/// The way down to a child.
struct Child {
    /// The first byte of the child's label, which no sibling shares.
    first: u8,
    node: u32,
}

impl Trie {
    /// False if the subscriber already held exactly this prefix.
    pub(super) fn insert(&mut self, prefix: &[u8], subscriber: u32) -> bool {
        if self.nodes.is_empty() {
            self.add(Node::default());
        }
        let mut id = ROOT;
        let mut rest = prefix;
        while let Some(&first) = rest.first() {
            id = match self.nodes[id].place_of(first) {
                Ok(at) => {
                    let child = self.nodes[id].children[at].node as usize;
                    let shared = shared_len(&self.nodes[child].label, rest);
                    self.split(child, shared);
                    rest = &rest[shared..];
                    child
                }
                Err(at) => {
                    let leaf = self.add(Node { label: rest.into(), ..Node::default() });
                    let child = Child { first, node: short_id(leaf) };
                    self.change(id, |node| node.children.insert(at, child));
                    rest = &[];
                    leaf
                }
            };
        }
        self.change(id, |node| node.insert_subscriber(subscriber))
    }

    /// False if the subscriber did not hold exactly this prefix.
    pub(super) fn remove(&mut self, prefix: &[u8], subscriber: u32) -> bool {
        let Some((parent, id)) = self.find(prefix) else { return false };
        if !self.change(id, |node| node.remove_subscriber(subscriber)) {
            return false;
        }
        let node = &self.nodes[id];
        if id != ROOT && node.children.is_empty() && node.subscribers.is_empty() {
            let first = node.label[0];
            self.change(parent, |node| node.remove_child(first));
            self.change(id, mem::take);
            self.free.push(short_id(id));
            self.merge(parent);
        } else {
            self.merge(id);
        }
        self.give_back();
        true
    }

    /// The subscribers of each prefix of `topic` that has any, from the shortest prefix to the longest.
    pub(super) fn holders<'a>(&'a self, topic: &'a [u8]) -> impl Iterator<Item = &'a [u32]> {
        let mut next = self.nodes.first();
        let mut rest = topic;
        iter::from_fn(move || loop {
            let node = next?;
            next = node.child(rest).map(|id| &self.nodes[id]).filter(|child| rest.starts_with(&child.label));
            if let Some(child) = next {
                rest = &rest[child.label.len()..];
            }
            if !node.subscribers.is_empty() {
                return Some(&node.subscribers[..]);
            }
        })
    }

    /// Whether a few steps show that nobody holds a prefix of `topic`: most topics part from all prefixes early. False
    /// says nothing.
    #[inline]
    pub(super) fn parts_early(&self, topic: &[u8]) -> bool {
        let Some(mut node) = self.nodes.first() else { return true };
        let mut rest = topic;
        for _ in 0..EARLY {
            if !node.subscribers.is_empty() {
                return false;
            }
            let Some(child) = node.child(rest) else { return true };
            node = &self.nodes[child];
            if !begins_with(rest, &node.label) {
                return true;
            }
            rest = &rest[node.label.len()..];
        }
        false
    }

    /// Calls `f` with each prefix that is held, cut off after `most` bytes; with one of those that begin alike so far.
    pub(super) fn for_each_beginning(&self, most: usize, mut f: impl FnMut(&[u8])) {
        let mut beginning = Vec::with_capacity(most);
        let mut ahead: Vec<_> = self.nodes.first().map(|root| (root, 0)).into_iter().collect();
        while let Some((node, above)) = ahead.pop() {
            beginning.truncate(above);
            beginning.extend(node.label.iter().take(most - above));
            let is_cut = beginning.len() == most;
            if is_cut || !node.subscribers.is_empty() {
                f(&beginning);
            }
            if !is_cut {
                let len = beginning.len();
                ahead.extend(node.children.iter().map(|child| (&self.nodes[child.node as usize], len)));
            }
        }
    }

    /// Nodes of the tree: at least as many as distinct prefixes, and fewer than twice as many and one.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Bytes held, free nodes included.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.free.capacity() * size_of::<u32>() + self.heap_bytes
    }

    /// The parent of the node of exactly this prefix, and the node; the root counts as its own parent.
    fn find(&self, prefix: &[u8]) -> Option<(usize, usize)> {
        self.nodes.get(ROOT)?;
        let (mut parent, mut id) = (ROOT, ROOT);
        let mut rest = prefix;
        while !rest.is_empty() {
            (parent, id) = (id, self.nodes[id].child(rest)?);
            rest = rest.strip_prefix(&*self.nodes[id].label)?;
        }
        Some((parent, id))
    }

    /// Cuts a label after `len` bytes, unless it ends there: the node keeps the front, a new child takes all the rest.
    fn split(&mut self, id: usize, len: usize) {
        if len == self.nodes[id].label.len() {
            return;
        }
        let mut lower = self.change(id, mem::take);
        let front = lower.label[..len].into();
        let first = lower.label[len];
        lower.label = lower.label[len..].into();
        let node = short_id(self.add(lower));
        self.change(id, |upper| {
            upper.label = front;
            upper.children.push(Child { first, node });
        });
    }

    /// Joins a node with its only child, if it stands for no prefix of its own.
    fn merge(&mut self, id: usize) {
        let node = &self.nodes[id];
        if id == ROOT || !node.subscribers.is_empty() {
            return;
        }
        let &[Child { node: only, .. }] = &node.children[..] else { return };
        let lower = self.change(only as usize, mem::take);
        self.free.push(only);
        self.change(id, |upper| {
            let label = [&*upper.label, &*lower.label].concat();
            *upper = Node { label: label.into(), ..lower };
        });
    }

    /// Puts a node into the arena.
    fn add(&mut self, node: Node) -> usize {
        self.heap_bytes += node.heap_bytes();
        match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id as usize
            }
            None => {
                if self.nodes.len() == self.nodes.capacity() {
                    // By a quarter and not by half: there may be a great many.
                    self.nodes.reserve_exact(self.nodes.len() / 4 + 4);
                }
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    /// The one way to change a node, so that `heap_bytes` stays true.
    fn change<R>(&mut self, id: usize, change: impl FnOnce(&mut Node) -> R) -> R {
        let node = &mut self.nodes[id];
        self.heap_bytes -= node.heap_bytes();
        let result = change(node);
        self.heap_bytes += node.heap_bytes();
        result
    }

    /// Gives memory back once hardly anything is left in the arena.
    ///
    /// Otherwise one prefix that stays would hold what a flood of others needed. The work is a part of what it took to
    /// remove the others.
    fn give_back(&mut self) {
        if self.nodes[ROOT].children.is_empty() && self.nodes[ROOT].subscribers.is_empty() {
            *self = Trie::default();
        } else if self.free.len() >= KEPT_FREE_NODES.max(self.nodes.len() / 2) {
            self.compact();
        }
    }

    /// Moves the tree to an arena of its own size, level by level.
    fn compact(&mut self) {
        let mut nodes = Vec::with_capacity(self.nodes.len() - self.free.len());
        nodes.push(mem::take(&mut self.nodes[ROOT]));
        let mut moved = 0;
        while moved < nodes.len() {
            let mut children = mem::take(&mut nodes[moved].children);
            for child in &mut children {
                let from = mem::replace(&mut child.node, short_id(nodes.len()));
                nodes.push(mem::take(&mut self.nodes[from as usize]));
            }
            nodes[moved].children = children;
            moved += 1;
        }
        self.nodes = nodes;
        self.free = Vec::new();
    }
}

impl Node {
    /// Where the child of that first byte is, or where it would have to be inserted.
    fn place_of(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |child| child.first)
    }

    /// The only child that can have a prefix of `rest`, which is what follows this node.
    #[inline]
    fn child(&self, rest: &[u8]) -> Option<usize> {
        let first = *rest.first()?;
        let child = match &self.children[..] {
            // The rule where topics begin alike.
            [only] => Some(only).filter(|only| only.first == first)?,
            _ => &self.children[self.place_of(first).ok()?],
        };
        Some(child.node as usize)
    }

    fn remove_child(&mut self, first: u8) {
        if let Ok(at) = self.place_of(first) {
            self.children.remove(at);
            shrink(&mut self.children);
        }
    }

    fn insert_subscriber(&mut self, subscriber: u32) -> bool {
        let Err(at) = self.subscribers.binary_search(&subscriber) else { return false };
        if self.subscribers.is_empty() {
            // One subscriber is the rule: room for four, which is what a vector begins with, would be wasted.
            self.subscribers.reserve_exact(1);
        }
        self.subscribers.insert(at, subscriber);
        true
    }

    fn remove_subscriber(&mut self, subscriber: u32) -> bool {
        let Ok(at) = self.subscribers.binary_search(&subscriber) else { return false };
        self.subscribers.remove(at);
        shrink(&mut self.subscribers);
        true
    }

    fn heap_bytes(&self) -> usize {
        allocated_bytes(self.label.len())
            + allocated_bytes(self.children.capacity() * size_of::<Child>())
            + allocated_bytes(self.subscribers.capacity() * size_of::<u32>())
    }
}

/// Gives a vector's memory back when three quarters of it are unused, but keeps room to grow again.
fn shrink<T>(items: &mut Vec<T>) {
    if items.len() <= items.capacity() / 4 {
        items.shrink_to(items.len() * 2);
    }
}

/// As `starts_with`, for beginnings of a few bytes, where a call costs more than they do.
#[inline]
fn begins_with(text: &[u8], beginning: &[u8]) -> bool {
    let (text, beginning) = match (text.split_first_chunk::<8>(), beginning.split_first_chunk::<8>()) {
        // One compare tells most of the longer ones apart.
        (Some((one, _)), Some((other, _))) if one != other => return false,
        (Some((_, text)), Some((_, beginning))) => (text, beginning),
        _ => (text, beginning),
    };
    text.len() >= beginning.len() && iter::zip(text, beginning).all(|(a, b)| a == b)
}

/// How many bytes two strings have in common at the front.
fn shared_len(one: &[u8], other: &[u8]) -> usize {
    iter::zip(one, other).take_while(|(a, b)| a == b).count()
}

/// A node's number as its parent keeps it.
fn short_id(id: usize) -> u32 {
    u32::try_from(id).expect("four thousand million nodes fit into no memory budget")
}

#[cfg(test)]
impl Trie {
    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        assert_eq!(self.heap_bytes, self.nodes.iter().map(Node::heap_bytes).sum::<usize>());
        if self.nodes.is_empty() {
            return assert_eq!(self.bytes(), 0);
        }
        let mut reached = 0;
        let mut ahead = alloc::vec![ROOT];
        while let Some(id) = ahead.pop() {
            let node = &self.nodes[id];
            reached += 1;
            assert_eq!(node.label.is_empty(), id == ROOT);
            assert!(id == ROOT || !node.subscribers.is_empty() || node.children.len() > 1, "a node too many");
            assert!(node.children.windows(2).all(|pair| pair[0].first < pair[1].first));
            assert!(node.subscribers.windows(2).all(|pair| pair[0] < pair[1]));
            for child in &node.children {
                assert_eq!(self.nodes[child.node as usize].label[0], child.first);
                ahead.push(child.node as usize);
            }
        }
        assert_eq!(reached + self.free.len(), self.nodes.len(), "a node was lost");
    }

    /// Nodes in the arena, free ones included.
    pub(super) fn arena_len(&self) -> usize {
        self.nodes.len()
    }
}
