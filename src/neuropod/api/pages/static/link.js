// Sends the token of a one-time link, which stands in the address's fragment: no server and no log has seen it, and a
// program that only fetches the address does not use it up.
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);

function send() {
  document.getElementById("token").value = token;
  document.getElementById("link").submit();
}

if (!token) {
  document.getElementById("title").textContent = "This link is incomplete";
  document.getElementById("words").textContent = "Copy the whole address, with all that follows the #.";
} else if (document.prerendering) {
  document.addEventListener("prerenderingchange", send, { once: true });
} else {
  send();
}
