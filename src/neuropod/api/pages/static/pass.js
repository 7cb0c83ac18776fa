// Goes on to the pod by itself; without scripts there is the button.
document.getElementById("pass").submit();
