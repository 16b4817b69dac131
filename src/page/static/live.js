// Everything works without this file. It swaps parts of the page that the server renders, and adds one-letter keys.
(() => {
  'use strict';
  const $ = (id) => document.getElementById(id);
  const body = document.body;
  const live = $('live');
  const BEAT = 12000; // two heartbeats of the server, and some more
  const busy = (el) => {
    const text = String(getSelection());
    return el.contains(document.activeElement) && document.activeElement !== body || el.querySelector('details[open]') ||
      text && getSelection().containsNode(el, true);
  };
  const waiting = new Map();
  // Rows never move, and none is added, while somebody looks: those that belong elsewhere by now are counted.
  const unseen = $('unseen');
  const elsewhere = new Set();
  const count = (old, row) => {
    if (!unseen || row.localName !== 'tr') return;
    const { group } = row.dataset, { q, state } = unseen.dataset;
    // Not all steady applications are on the page.
    const belongs = !group || group !== 'steady' && (!state || state === group) && row.id.slice(4).toLowerCase().includes(q.toLowerCase());
    if (old ? group && !old.closest('.g-' + group) : belongs) elsewhere.add(row.id); else elsewhere.delete(row.id);
    unseen.hidden = !elsewhere.size;
    unseen.querySelector('b').textContent = elsewhere.size;
  };
  const swap = (id, html) => {
    const old = $(id);
    const t = document.createElement('template');
    t.innerHTML = html; // rendered and escaped by the server, like the page itself
    const now = t.content.firstElementChild;
    if (!now || now.id !== id) return;
    count(old, now);
    if (!old) return;
    if (busy(old)) { waiting.set(id, html); return; }
    waiting.delete(id);
    for (const d of old.querySelectorAll('details[open][id]')) { const n = now.querySelector('#' + CSS.escape(d.id)); if (n) n.open = true; }
    old.replaceWith(now);
  };
  const later = () => setTimeout(() => waiting.forEach((html, id) => swap(id, html)), 0);

  let es = null, last = '', heard = 0;
  const say = (is) => {
    if (!live) return;
    live.classList.toggle('att', !is);
    live.firstElementChild.textContent = is ? 'Live' : 'Not live since';
    if (is) { live.lastElementChild.textContent = last; }
  };
  const stop = () => { if (es) { es.close(); es = null; } };
  const start = () => {
    if (es || !live || !body.dataset.page || document.hidden) return;
    const { page, seq, written = 0 } = body.dataset;
    es = new EventSource(body.dataset.base + '/events?' + new URLSearchParams({ page, seq, written }));
    es.addEventListener('fragment', (e) => {
      const cut = e.data.indexOf('\n');
      swap(e.data.slice(0, cut), e.data.slice(cut + 1));
    });
    es.addEventListener('title', (e) => {
      const at = document.title.lastIndexOf(' – ');
      document.title = e.data + (at < 0 ? '' : document.title.slice(at));
    });
    es.addEventListener('clock', (e) => {
      heard = Date.now(); last = e.data;
      if (e.lastEventId) body.dataset.seq = e.lastEventId;
      say(true);
    });
    es.addEventListener('over', () => { stop(); location.reload(); }); // the page then asks to sign in again
    es.onerror = () => {
      say(false);
      // A browser gives up after an answer that is not a stream.
      if (es && es.readyState === 2) { stop(); setTimeout(start, 5000); }
    };
  };
  setInterval(() => { if (es && heard && Date.now() - heard > BEAT) { say(false); stop(); start(); } }, 3000);
  document.addEventListener('visibilitychange', () => { if (document.hidden) stop(); else start(); });
  addEventListener('pagehide', stop);
  addEventListener('pageshow', start);
  document.addEventListener('focusout', later);
  document.addEventListener('toggle', (e) => { if (!e.target.open) later(); }, true);
  start();

  // A form is sent once.
  document.addEventListener('submit', (e) => {
    if (e.target.method !== 'post') return;
    if (e.target.dataset.sent) { e.preventDefault(); return; }
    e.target.dataset.sent = 'yes';
    const b = e.submitter;
    if (b) setTimeout(() => { b.setAttribute('aria-disabled', 'true'); }, 0);
  });
  addEventListener('pageshow', () => { for (const f of document.querySelectorAll('form[data-sent]')) delete f.dataset.sent; });

  const open = (sel) => {
    const d = document.querySelector(sel);
    if (!d) return null;
    d.open = true;
    (d.querySelector('button') || d.firstElementChild).focus();
    return d;
  };
  document.addEventListener('keydown', (e) => {
    const box = document.querySelector('.act[open]');
    if (e.key === 'Escape' && box) { box.open = false; box.firstElementChild.focus(); return; }
    if (e.ctrlKey || e.altKey || e.metaKey || body.dataset.keys === 'off' || e.target.closest('input,select,textarea')) return;
    const rows = [...document.querySelectorAll('.apps th a')];
    const at = rows.indexOf(document.activeElement);
    const hit = {
      '/': () => document.querySelector('[type=search]'),
      j: () => rows[Math.min(at + 1, rows.length - 1)],
      k: () => rows[Math.max(at - 1, 0)],
      r: () => open('.back'),
      p: () => open('.pause'),
    }[e.key];
    const to = hit && hit();
    if (to) { e.preventDefault(); if (!to.open) to.focus(); }
  });
})();
