def find_array(address, nbytes, frame): return None
