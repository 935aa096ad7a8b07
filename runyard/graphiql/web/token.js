const STORAGE_KEY = 'runyard:token';
const REJECTED = 'runyard:token-rejected';

/** Label of the field for the token. Messages refer to it. */
export const TOKEN_LABEL = 'API token';

/** Returns the API token that was entered on this page; an empty string without one. */
export function readToken() {
  return sessionStorage.getItem(STORAGE_KEY) ?? '';
}

/**
 * Stores the API token for this tab of the browser, until the tab is closed. Removes what a copied text can contain
 * besides the token: the word `Bearer`, spaces, and characters that headers cannot contain.
 */
export function storeToken(text) {
  const token = text.replace(/^\s*bearer\s/i, '').replaceAll(/[^\x21-\x7e]/g, '');
  if (token) {
    sessionStorage.setItem(STORAGE_KEY, token);
  } else {
    sessionStorage.removeItem(STORAGE_KEY);
  }
}

/** Returns the headers with the token. Headers that the user has entered with a token are returned unchanged. */
export function addToken(headers) {
  const token = readToken();
  const hasOwnToken = Object.keys(headers).some((name) => name.toLowerCase() === 'authorization');
  return token && !hasOwnToken ? { ...headers, Authorization: `Bearer ${token}` } : headers;
}

/** Reports to the page that the server has rejected the token, or that it requires one. */
export function reportRejectedToken() {
  window.dispatchEvent(new Event(REJECTED));
}

/** Calls the listener for each rejected token. Returns a function that ends this. */
export function onRejectedToken(listener) {
  window.addEventListener(REJECTED, listener);
  return () => window.removeEventListener(REJECTED, listener);
}
